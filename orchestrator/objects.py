"""Objects below an S3 prefix: the one file that imports boto3.

Endpoint, region, credentials and proxies come from the usual chain (environment, ~/.aws, the instance's role) and from nowhere
else; retries and timeouts are botocore's, parallel and ranged transfers s3transfer's. A part of an object that has changed
since it was listed is refused by the server (If-Match) and told as Changed.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentProblem, UserError

SCHEME = "s3://"
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
TRANSFERS = 16  # at a time
SILENCE_S = 60  # of a server, after which a request is tried again
RETRIES: Mapping[str, Any] = {"mode": "standard", "total_max_attempts": 8}
ADVICE = {
    "NoSuchBucket": "There is no such bucket: make it, or mend the address.",
    "AccessDenied": "These credentials may not do that: give them the right, or use others.",
    "InvalidAccessKeyId": "The server does not know this access key: look at AWS_ACCESS_KEY_ID or ~/.aws/credentials.",
    "SignatureDoesNotMatch": "The secret key is wrong: look at AWS_SECRET_ACCESS_KEY or ~/.aws/credentials.",
    "ExpiredToken": "The credentials have expired: get new ones.",
    "NoCredentialsError": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials.",
    "PartialCredentialsError": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together.",
    "EndpointConnectionError": "Is AWS_DEFAULT_REGION right, and can this machine reach it?",
    "ProxyConnectionError": "Look at HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
    "HTTPClientError": "Is there a space or a line break in AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY?",
    "SSLError": "Is AWS_ENDPOINT_URL right about https, and AWS_CA_BUNDLE about who signed?",
    "AuthorizationHeaderMalformed": "The bucket is in another region: look at AWS_DEFAULT_REGION.",
    "PermanentRedirect": "The bucket is in another region: look at AWS_DEFAULT_REGION.",
}
KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
CONFIG_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
# Settings that boto3 names in words of its own when it refuses their value.
WORDS = {
    "AWS_PROFILE": "config profile",
    "AWS_DEFAULT_PROFILE": "config profile",
    "AWS_DEFAULT_REGION": "region_name",
}
OF_THE_ADDRESS = frozenset(
    {
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "EndpointProviderError",
        "EndpointResolutionError",
    }
)
NOT_THERE = frozenset({"NoSuchKey", "404"})
HAS_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
WRITER = "writer"  # the note by which a writer knows its object again


class Changed(Exception):
    """The object was replaced since it was listed, or while it was being read."""


@dataclass(frozen=True)
class Listed:
    """What a listing says of an object; the tag changes with its content."""

    bytes: int
    etag: str


@dataclass(frozen=True)
class Head(Listed):
    """An object, with what its writer noted of it."""

    about: Mapping[str, str]


class Prefix:
    """The objects of `s3://bucket/prefix`; keys are relative to it.

    Raises UserError for what is no such address, KeyError for an object that is not there, EnvironmentProblem where the
    service fails after botocore's retries.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
        if (
            not uri.startswith(SCHEME)
            or not BUCKET.fullmatch(bucket)
            or "" in prefix.split("/")[1:]
        ):
            raise UserError(f"{uri}: is no S3 address: s3://BUCKET or s3://BUCKET/PREFIX is wanted")
        self.uri = f"{SCHEME}{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._start = f"{prefix}/" if prefix else ""

    def __truediv__(self, name: str) -> Prefix:
        return Prefix(f"{self.uri}/{name}")

    def folders(self) -> list[str]:
        """The parts of keys up to the first `/`, each once."""
        with self._mapped():
            pages = self._pages("", Delimiter="/")
            names = [
                found["Prefix"][len(self._start) : -1]
                for page in pages
                for found in page.get("CommonPrefixes", ())
            ]
        return [name for name in names if name not in ("", ".", "..")]

    def list(self, below: str = "") -> dict[str, Listed]:
        """Every object whose key begins with `below`, by key, in lexical order. What only marks a folder is none."""
        with self._mapped():
            found = {
                item["Key"][len(self._start) :]: Listed(item["Size"], item["ETag"].strip('"'))
                for page in self._pages(below)
                for item in page.get("Contents", ())
            }
        return {key: item for key, item in sorted(found.items()) if key and not key.endswith("/")}

    def get(self, key: str, listed: Listed | None = None) -> bytes:
        """The content; of just the object that was `listed`, where one is given, or raises Changed."""
        content = io.BytesIO()
        with self._mapped(key), _transfers() as transfers:
            transfers.download(
                self._bucket, self._start + key, content, subscribers=_known(listed)
            ).result()
        return content.getvalue()

    def put(self, key: str, content: bytes) -> None:
        with self._mapped(key):
            _client().put_object(Bucket=self._bucket, Key=self._start + key, Body=content)

    def put_if(self, key: str, content: bytes, etag: str | None) -> bool:
        """Put where the object there has this tag, or, for None, where there is none; whether that was so.

        The server decides. A try whose answer was lost is refused when botocore repeats it: the writer's mark tells it as ours.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        writer = uuid.uuid4().hex
        try:
            with self._mapped(key):
                _client().put_object(
                    Bucket=self._bucket,
                    Key=self._start + key,
                    Body=content,
                    Metadata={WRITER: writer},
                    **condition,
                )
        except KeyError:  # a tag was wanted, and nothing is there
            return False
        except Changed:
            return self.head(key).about.get(WRITER) == writer
        return True

    def delete(self, key: str) -> None:
        with self._mapped(key):
            _client().delete_object(Bucket=self._bucket, Key=self._start + key)

    def head(self, key: str) -> Head:
        """An object without its content."""
        with self._mapped(key):
            head = _client().head_object(Bucket=self._bucket, Key=self._start + key)
            return Head(head["ContentLength"], head["ETag"].strip('"'), head["Metadata"])

    def download(self, files: Mapping[str, tuple[Path, Listed | None]]) -> Iterator[str]:
        """Write objects, by key, to local files, in parallel; yields each key once its file is whole.

        One that arrives with a checksum other than the server's is left out. Also raises Changed for one that is not, or not
        all through the transfer, the object that was listed.
        """
        from botocore.exceptions import FlexibleChecksumError

        with self._mapped(), _transfers() as transfers:
            futures = {
                key: transfers.download(
                    self._bucket, self._start + key, str(path), subscribers=_known(listed)
                )
                for key, (path, listed) in files.items()
            }
            for key, future in futures.items():
                with self._mapped(key):
                    try:
                        future.result()
                    except FlexibleChecksumError:
                        continue
                yield key

    def upload(
        self, files: Mapping[str, Path], about: Mapping[str, Mapping[str, str]]
    ) -> Iterator[str]:
        """Write local files to objects, by key, in parallel, with what to note of each; yields each key once it is there."""
        with self._mapped(), _transfers() as transfers:
            futures = {
                key: transfers.upload(
                    str(path),
                    self._bucket,
                    self._start + key,
                    extra_args={"Metadata": dict(about.get(key, {}))},
                )
                for key, path in files.items()
            }
            for key, future in futures.items():
                with self._mapped(key):
                    future.result()
                yield key

    def _pages(self, below: str, **more: str) -> Any:
        pages = _client().get_paginator("list_objects_v2")
        return pages.paginate(Bucket=self._bucket, Prefix=self._start + below, **more)

    @contextlib.contextmanager
    def _mapped(self, key: str = "") -> Iterator[None]:
        """What boto3 raises, as ours."""
        try:
            from boto3.exceptions import Boto3Error
            from botocore.exceptions import BotoCoreError, ClientError
            from s3transfer.exceptions import (
                RetriesExceededError,
                S3DownloadFailedError,
                S3ValidationError,
            )
        except ImportError as error:
            raise EnvironmentProblem(
                f"{self.uri}: S3 needs boto3: pip install 'normsweep[s3]'"
            ) from error
        where = f"{self.uri}/{key}" if key else self.uri
        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in NOT_THERE:
                raise KeyError(where) from error
            if code in HAS_CHANGED:
                raise _changed(where) from error
            raise _failed(where, error, code) from error
        except S3DownloadFailedError as error:  # s3transfer's word for a refused If-Match
            raise _changed(where) from error
        except RetriesExceededError as error:
            raise EnvironmentProblem(f"{where}: {error.last_exception}, again and again") from error
        except (Boto3Error, BotoCoreError, S3ValidationError) as error:
            raise _failed(where, error, type(error).__name__) from error


def _changed(where: str) -> Changed:
    return Changed(f"{where}: has been replaced since it was listed")


def _failed(where: str, error: Exception, kind: str) -> EnvironmentProblem:
    advice, meant = ADVICE.get(kind, ""), _quoted(str(error)) if kind in OF_THE_ADDRESS else []
    if meant:
        advice = f"Is {' or '.join(meant)} right, and can this machine reach it?"
    return EnvironmentProblem(f"{where}: {error}".rstrip(".") + f". {advice}".rstrip())


def is_s3(address: str) -> bool:
    return address.startswith(SCHEME)


@functools.cache
def _client() -> Any:
    """One client for the process: it may be shared by threads."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    own = {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} & os.environ.keys()
    config = Config(
        retries=None if own else dict(RETRIES),
        connect_timeout=10,
        read_timeout=SILENCE_S,
        max_pool_connections=TRANSFERS,
    )
    try:
        return boto3.session.Session().client("s3", config=config)
    except (
        BotoCoreError,
        ValueError,
        OSError,
    ) as error:  # nothing is sent yet: a setting is refused
        said = str(error).rstrip(".")
        raise EnvironmentProblem(
            f"S3 cannot be set up: {said}. {_refused(str(error), type(error).__name__)}"
        ) from error


def _refused(said: str, kind: str) -> str:
    """Which setting boto3 refuses with these words."""
    if kind in ADVICE:
        return ADVICE[kind]
    if meant := _quoted(said):
        return f"Mend {' or '.join(meant)}."
    names = [name for name in sorted(os.environ) if name.startswith("AWS_")]
    return f"Look at {', '.join([*names, *CONFIG_FILES.values()])}."


def _quoted(said: str) -> list[str]:
    """The settings that boto3 may mean: it quotes the value, but seldom names the setting."""
    places = [place for place in (*_settings(), *_entries()) if _quotes(said, place[2])]
    places = [place for place in places if place[2] and place[1] in said] or places
    longest = max((len(value) for _, _, value in places), default=0)  # others may be parts of it
    return list(dict.fromkeys(place for place, _, value in places if len(value) == longest))


def _settings() -> Iterator[tuple[str, str, str]]:
    """(what a person calls it, what boto3 calls it, its value) of every variable."""
    for name, value in os.environ.items():
        if name.startswith("AWS_") and name not in KEYS:
            yield name, WORDS.get(name, name.removeprefix("AWS_").lower()), value


def _entries() -> Iterator[tuple[str, str, str]]:
    """The same of every entry of the configuration files."""
    for variable, usual in CONFIG_FILES.items():
        path = Path(os.environ.get(variable) or usual).expanduser()
        with contextlib.suppress(OSError):
            for line in path.read_text(errors="replace").splitlines():
                name, separator, value = (part.strip() for part in line.partition("="))
                if separator:
                    yield f"{name} in {path}", name, value


def _quotes(said: str, value: str) -> bool:
    return (
        f"'{value}'" in said
        if not value.strip()
        else re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", said) is not None
    )


def _known(listed: Listed | None) -> list[Any]:
    """Spares a transfer its request for size and tag, and binds it to the object that was listed."""
    from s3transfer.subscribers import BaseSubscriber

    class Known(BaseSubscriber):  # type: ignore[misc]
        def on_queued(self, future: Any, **more: Any) -> None:
            if listed is not None:
                future.meta.provide_transfer_size(listed.bytes)
                future.meta.provide_object_etag(f'"{listed.etag}"')

    return [Known()]


def _transfers() -> Any:
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    return create_transfer_manager(_client(), TransferConfig(max_concurrency=TRANSFERS))
