"""Reads many objects of a bucket with a tenth of the CPU time that botocore takes (decision 29).

obstore does, whose client is not Python. It is asked after FEW objects, and as long as nothing goes
wrong: botocore knows more settings, retries for longer, and has our words for what fails.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from obstore.store import S3Store

FEW = 64  # objects, which botocore reads before obstore's connections are worth opening
# Of one whole read, during which Ctrl-C has to wait; what takes longer is not a small object.
WITHIN = timedelta(seconds=10)
RENEWED = timedelta(minutes=5)  # botocore renews credentials ten minutes before they expire


class _Unsure(Exception):
    """The content may not be what the server has."""


class ManyObjects:
    """The objects of one bucket, as a boto3 client and its session reach it."""

    # The first process that used obstore. Its threads do not survive a fork, and are waited for.
    _process: ClassVar[int | None] = None

    def __init__(self, bucket: str, client: Any, session: Any) -> None:
        self._bucket, self._client, self._session = bucket, client, session
        self._lock = threading.Lock()
        self._before = FEW
        self._store: S3Store | None = None
        self._is_given_up = False

    def get(self, key: str, by_botocore: Callable[[], bytes]) -> bytes:
        """The content of an object, which botocore reads unless obstore can."""
        if self._before > 0:
            self._before -= 1
            return by_botocore()
        if self._is_given_up or ManyObjects._process not in (None, os.getpid()):
            return by_botocore()
        try:
            return self._read(key)
        except FileNotFoundError:
            content = by_botocore()
            self._is_given_up = True  # since it is there
            return content
        except Exception:  # a setting, a certificate, rights, the network, a part that is missing
            self._is_given_up = True
            return by_botocore()

    def _read(self, key: str) -> bytes:
        found = self._opened().get(key)
        content = bytes(found.bytes())
        tag = (found.meta["e_tag"] or "").strip('"')
        # An object in one piece that KMS does not encrypt has its MD5 as its tag.
        if tag and tag != hashlib.md5(content, usedforsecurity=False).hexdigest():
            raise _Unsure
        return content

    def _opened(self) -> S3Store:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        with self._lock:
            ManyObjects._process = os.getpid()
            if self._store is None:
                about = self._client.meta
                self._store = S3Store(
                    self._bucket,
                    endpoint=about.endpoint_url,
                    region=about.region_name,
                    # Variables that botocore does not know may say otherwise.
                    virtual_hosted_style_request=False,
                    skip_signature=False,
                    request_payer=False,
                    client_options={
                        "allow_http": about.endpoint_url.startswith("http://"),
                        "connect_timeout": WITHIN,
                        "timeout": WITHIN,
                    },
                    retry_config={"max_retries": 0},
                    credential_provider=Boto3CredentialProvider(self._session, ttl=RENEWED),
                )
            return self._store
