"""Advice about an S3 error: which setting it is about, and what to do.

boto3's messages quote the value that it refuses, but seldom name the setting. The environment and
the configuration files are searched for that value.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

ADVICE = {
    "NoSuchBucket": "There is no such bucket: create it, or correct the address.",
    "AccessDenied": (
        "These credentials do not permit this: grant them the permission, or use others."
    ),
    "InvalidAccessKeyId": (
        "The server does not know this access key: check AWS_ACCESS_KEY_ID or ~/.aws/credentials."
    ),
    "SignatureDoesNotMatch": (
        "The secret key is wrong: check AWS_SECRET_ACCESS_KEY or ~/.aws/credentials."
    ),
    "ExpiredToken": "The credentials have expired: get new ones.",
    "NoCredentialsError": (
        "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials."
    ),
    "PartialCredentialsError": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together.",
    "EndpointConnectionError": "Is AWS_DEFAULT_REGION right, and can this machine reach it?",
    "ProxyConnectionError": "Check HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
    "HTTPClientError": (
        "Is there a space or a line break in AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY?"
    ),
    "SSLError": (
        "Should AWS_ENDPOINT_URL begin with https, and does AWS_CA_BUNDLE name the right "
        "certificates?"
    ),
    "AuthorizationHeaderMalformed": "The bucket is in another region: check AWS_DEFAULT_REGION.",
    "NotImplemented": (
        "This server does not know conditional writes (If-Match, If-None-Match), without which two "
        "runs would take the same trial. Upgrade it, or use another one."
    ),
    "PermanentRedirect": "The bucket is in another region: check AWS_DEFAULT_REGION.",
}
KEYS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"})
CONFIG_FILES = {
    "AWS_CONFIG_FILE": "~/.aws/config",
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
}
# Settings that boto3 calls by another name when it refuses their value.
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


def on_failure(message: str, kind: str) -> str:
    """Advice for a request that failed with this message and error code or class; "" if unknown."""
    settings = _quoted(message) if kind in OF_THE_ADDRESS else []
    if settings:
        return f"Is {' or '.join(settings)} right, and can this machine reach it?"
    return ADVICE.get(kind, "")


def on_refused_setting(message: str, kind: str) -> str:
    """Advice for settings that boto3 refuses before it sends anything."""
    if kind in ADVICE:
        return ADVICE[kind]
    if settings := _quoted(message):
        return f"Correct {' or '.join(settings)}."
    names = [name for name in sorted(os.environ) if name.startswith("AWS_")]
    return f"Check {', '.join([*names, *CONFIG_FILES.values()])}."


def _quoted(message: str) -> list[str]:
    """The settings whose value the message quotes."""
    settings = [found for found in (*_variables(), *_entries()) if _quotes(message, found[2])]
    # Among several with the quoted value, those whose name boto3 mentions too.
    settings = [found for found in settings if found[2] and found[1] in message] or settings
    # A shorter value may only be a part of the one that is meant.
    longest = max((len(value) for _, _, value in settings), default=0)
    return list(dict.fromkeys(label for label, _, value in settings if len(value) == longest))


def _variables() -> Iterator[tuple[str, str, str]]:
    """(name for people, boto3's name, value) of every AWS variable but the secret keys."""
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


def _quotes(message: str, value: str) -> bool:
    """Whether the message contains the value as a word; a blank value only counts in quotes."""
    if not value.strip():
        return f"'{value}'" in message
    return re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", message) is not None
