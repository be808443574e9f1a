"""Objects below an S3 prefix: the one file that imports boto3 (many_objects reads many of them).

Endpoint, region, credentials and proxies come from the usual chain only (environment, ~/.aws, the
instance's role). botocore retries and times out, s3transfer transfers in parallel and by ranges.
The server refuses to send parts of an object that has changed since it was listed (If-Match), which
raises Changed.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import s3_settings
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.many_objects import ManyObjects

SCHEME = "s3://"
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
TRANSFERS = 16  # at a time
SILENCE_S = 60  # a request is retried when the server has sent nothing for this long
RETRIES: Mapping[str, Any] = {"mode": "standard", "total_max_attempts": 8}
NOT_THERE = frozenset({"NoSuchKey", "404"})
HAS_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412"})
WRITER = "writer"  # the metadata by which a writer recognises its own object


class Changed(Exception):
    """The object was replaced since it was listed, or while it was being read."""


@dataclass(frozen=True)
class Listed:
    """An object as a listing shows it; the tag changes with its content."""

    bytes: int
    etag: str


@dataclass(frozen=True)
class Head(Listed):
    """The same, and the metadata that the object's writer attached."""

    about: Mapping[str, str]


class Prefix:
    """The objects of `s3://bucket/prefix`; keys are relative to it.

    Raises UserError for any other address, KeyError for an object that does not exist, and
    EnvironmentProblem if the service still fails after botocore's retries.
    """

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
        if (
            not uri.startswith(SCHEME)
            or not BUCKET.fullmatch(bucket)
            or "" in prefix.split("/")[1:]
        ):
            raise UserError(f"{uri}: not an S3 address. Give s3://BUCKET or s3://BUCKET/PREFIX.")
        self.uri = f"{SCHEME}{bucket}/{prefix}".rstrip("/")
        self._bucket = bucket
        self._start = f"{prefix}/" if prefix else ""

    def __truediv__(self, name: str) -> Prefix:
        return Prefix(f"{self.uri}/{name}")

    def folders(self) -> list[str]:
        """The distinct first parts of keys, up to the first `/`."""
        with self._mapped():
            pages = self._pages("", Delimiter="/")
            names = [
                found["Prefix"][len(self._start) : -1]
                for page in pages
                for found in page.get("CommonPrefixes", ())
            ]
        return [name for name in names if name not in ("", ".", "..")]

    def list(self, below: str = "") -> dict[str, Listed]:
        """Every object whose key begins with `below`, by key, in lexical order.

        The empty objects that some tools create to mark a folder are left out.
        """
        with self._mapped():
            found = {
                item["Key"][len(self._start) :]: Listed(item["Size"], item["ETag"].strip('"'))
                for page in self._pages(below)
                for item in page.get("Contents", ())
            }
        return {key: item for key, item in sorted(found.items()) if key and not key.endswith("/")}

    def get(self, key: str, listed: Listed | None = None) -> bytes:
        """The content of an object. Raises Changed if it is no longer the one that was `listed`."""
        if listed is None:
            with self._mapped(key):
                many = _many(self._bucket)
            return many.get(self._start + key, lambda: self.get_tagged(key)[0])
        return self.get_tagged(key, listed)[0]

    def get_tagged(self, key: str, listed: Listed | None = None) -> tuple[bytes, str]:
        """The content of an object and its tag, in one request.

        Not by s3transfer, which asks for the size first and starts threads for each object.
        """
        condition = {} if listed is None else {"IfMatch": f'"{listed.etag}"'}
        tries = 0
        with self._mapped(key):
            from s3transfer.exceptions import RetriesExceededError
            from s3transfer.utils import S3_RETRYABLE_DOWNLOAD_ERRORS

            while True:
                tries += 1
                got = _client().get_object(Bucket=self._bucket, Key=self._start + key, **condition)
                try:
                    return got["Body"].read(), str(got.get("ETag", "")).strip('"')
                except S3_RETRYABLE_DOWNLOAD_ERRORS as error:
                    # botocore repeats requests, but not one whose answer breaks off.
                    if tries == RETRIES["total_max_attempts"]:
                        raise RetriesExceededError(error) from error

    def put(self, key: str, content: bytes) -> None:
        with self._mapped(key):
            _client().put_object(Bucket=self._bucket, Key=self._start + key, Body=content)

    def put_if(self, key: str, content: bytes, etag: str | None) -> str | None:
        """Put if the object there has this tag, or if `etag` is None and there is no object.

        Returns the object's new tag, or None if the server refused. If the answer to a successful
        put is lost, botocore repeats the request and the server refuses it: then the writer's mark
        shows that the object is ours.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": f'"{etag}"'}
        writer = uuid.uuid4().hex
        try:
            with self._mapped(key):
                done = _client().put_object(
                    Bucket=self._bucket,
                    Key=self._start + key,
                    Body=content,
                    Metadata={WRITER: writer},
                    **condition,
                )
                return str(done.get("ETag", "")).strip('"')
        except KeyError:  # a tag was required, and there is no object
            return None
        except Changed:
            there = self.head(key)
            return there.etag if there.about.get(WRITER) == writer else None

    def delete(self, key: str) -> None:
        with self._mapped(key):
            _client().delete_object(Bucket=self._bucket, Key=self._start + key)

    def head(self, key: str) -> Head:
        """An object without its content."""
        with self._mapped(key):
            head = _client().head_object(Bucket=self._bucket, Key=self._start + key)
            return Head(head["ContentLength"], head["ETag"].strip('"'), head["Metadata"])

    def download(self, files: Mapping[str, tuple[Path, Listed | None]]) -> Iterator[str]:
        """Write objects to local files in parallel; yields each key once its file is complete.

        `files` gives the file of each key. An object that arrives with a checksum other than the
        server's is left out. Also raises Changed if an object is not the one that was listed, or is
        replaced during the transfer.
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
        """Write local files to objects in parallel, with the metadata in `about`, both by key.

        Yields each key once its object is stored.
        """
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
        """Translate what boto3 and its parts raise into our errors, which name the object."""
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
        except S3DownloadFailedError as error:  # what s3transfer makes of a refused If-Match
            raise _changed(where) from error
        except RetriesExceededError as error:
            raise EnvironmentProblem(
                f"{where}: {error.last_exception}, after all retries"
            ) from error
        except (Boto3Error, BotoCoreError, S3ValidationError) as error:
            raise _failed(where, error, type(error).__name__) from error


def _changed(where: str) -> Changed:
    return Changed(f"{where}: has been replaced since it was listed")


def _failed(where: str, error: Exception, kind: str) -> EnvironmentProblem:
    advice = s3_settings.on_failure(str(error), kind)
    return EnvironmentProblem(f"{where}: {error}".rstrip(".") + f". {advice}".rstrip())


def is_s3(address: str) -> bool:
    return address.startswith(SCHEME)


def forget() -> None:
    """Read the settings of S3 anew."""
    for known in (_session, _client, _many):
        known.cache_clear()


@functools.cache
def _many(bucket: str) -> ManyObjects:
    return ManyObjects(bucket, _client(), _session())


@functools.cache
def _session() -> Any:
    """A session that leaves times as texts, as the AWS CLI does: nobody reads those of a listing,
    and parsing them takes most of its time.
    """
    import boto3
    from botocore.session import get_session

    core = get_session()
    core.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=str)
    return boto3.session.Session(botocore_session=core)


@functools.cache
def _client() -> Any:
    """The one client of this process; boto3's clients may be shared by threads."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # A Config would override the user's own settings of retries.
    is_set = bool({"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"} & os.environ.keys())
    config = Config(
        retries=None if is_set else dict(RETRIES),
        connect_timeout=10,
        read_timeout=SILENCE_S,
        max_pool_connections=TRANSFERS,
    )
    try:
        return _session().client("s3", config=config)
    except (BotoCoreError, ValueError, OSError) as error:
        # Nothing has been sent yet, so the error is about a setting.
        advice = s3_settings.on_refused_setting(str(error), type(error).__name__)
        reason = str(error).rstrip(".")
        raise EnvironmentProblem(f"S3 cannot be set up: {reason}. {advice}") from error


def _known(listed: Listed | None) -> list[Any]:
    """Subscribers that bind a transfer to the listed object.

    They also save s3transfer its own request for the object's size and tag.
    """
    from s3transfer.subscribers import BaseSubscriber  # which only normsweep[s3] installs

    class Known(BaseSubscriber):  # type: ignore[misc]
        def on_queued(self, future: Any, **more: Any) -> None:
            if listed is not None:
                future.meta.provide_transfer_size(listed.bytes)
                future.meta.provide_object_etag(f'"{listed.etag}"')

    return [Known()]


def _transfers() -> Any:
    from boto3.s3.transfer import TransferConfig, create_transfer_manager

    return create_transfer_manager(_client(), TransferConfig(max_concurrency=TRANSFERS))
