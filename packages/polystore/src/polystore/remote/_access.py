"""Where a remote store is, how it is entered, and how long it may take."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from polystore._errors import MissingExtraError, StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["RemoteAccess", "open_objects"]

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0
_PAUSE_FACTOR = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteAccess:
    """How a remote store is entered. What is not given is found as the vendor's programs find it.

    That is, environment variables such as ``AWS_ACCESS_KEY_ID``, and the identity of the computer
    in a cloud.

    Attributes
    ----------
    endpoint
        URL of the server where it is not the vendor's own, as ``http://minio.lab:9000``.
    region
        Of the bucket.
    key_id, secret_key, session_token
        Credentials of S3; never shown, neither by `repr` nor in messages.
    anonymous
        Whether requests are not signed, for buckets that everybody may read.
    timeout_s
        Longest time of one request, in seconds.
    retries
        How often a request is made again that failed for a reason which may pass.
    deadline_s
        No request is made again after so many seconds, so that nothing takes longer than
        `deadline_s` and `timeout_s` together.

    Raises
    ------
    ValueError
        If a time is not above 0, or only one of `key_id` and `secret_key` is given.
    """

    endpoint: str | None = None
    region: str | None = None
    key_id: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    anonymous: bool = False
    timeout_s: float = 30.0
    retries: int = 3
    deadline_s: float = 60.0

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.deadline_s <= 0 or self.retries < 0:
            raise ValueError(f"times have to be above 0, and retries 0 or more: {self}")
        if (self.key_id is None) != (self.secret_key is None):
            raise ValueError("key_id and secret_key belong together: give both or none")

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be in any message."""
        known = (self.key_id, self.secret_key, self.session_token)
        return tuple(each for each in known if each)


def open_objects(url: str, access: RemoteAccess) -> ObjectStore:
    """Open what obstore calls a store. Nothing is asked of the server yet.

    Parameters
    ----------
    url
        ``s3://bucket/prefix``, ``gs://…``, ``az://…`` or ``memory:///``.
    access
        How it is entered.

    Raises
    ------
    StorageError
        If the URL holds credentials, or is none that is known.
    MissingExtraError
        If obstore is not installed.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise StorageError(
            f"a URL of {parts.scheme} with credentials in it is not opened, for URLs are written "
            "into logs: give them with RemoteAccess"
        )
    if parts.scheme == "file":
        raise StorageError(f"{url} is a folder of this computer: use DiskStore, or its path")
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise MissingExtraError("remote stores need obstore: install polystore[remote]") from error
    config: dict[str, Any] = {}
    if parts.scheme in {"s3", "s3a"}:
        given = {
            "endpoint": access.endpoint,
            "region": access.region or ("us-east-1" if access.endpoint else None),
            "access_key_id": access.key_id,
            "secret_access_key": access.secret_key,
            "session_token": access.session_token,
            "skip_signature": access.anonymous or None,
        }
        config = {name: value for name, value in given.items() if value is not None}
    if parts.scheme == "memory":
        return from_url(url)
    plain = re.match("http:", access.endpoint or url) is not None
    try:
        return from_url(
            url,
            **config,
            client_options={
                "allow_http": plain,
                "timeout": timedelta(seconds=access.timeout_s),
                "connect_timeout": timedelta(seconds=min(access.timeout_s, 10.0)),
            },
            retry_config={
                "max_retries": access.retries,
                "retry_timeout": timedelta(seconds=access.deadline_s),
                "backoff": {
                    "init_backoff": timedelta(seconds=_FIRST_PAUSE_S),
                    "max_backoff": timedelta(seconds=_LONGEST_PAUSE_S),
                    "base": _PAUSE_FACTOR,
                },
            },
        )
    except (BaseError, ValueError, TypeError) as error:
        raise StorageError(f"{url} cannot be opened: {str(error).splitlines()[0]}") from None
