"""What a remote store answers, said to people, without credentials."""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING

from polystore._errors import (
    AccessDeniedError,
    NotStoredError,
    NotWrittenError,
    StorageError,
    UnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["asking", "sending"]

_CODE = re.compile(r"<Code>(\w+)</Code>")
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_RETRIES = re.compile(r"after (\d+) retries")
_DENIED = re.compile(
    r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|InvalidToken|"
    r"40[13] (Forbidden|Unauthorized)"
)
_KINDS = {
    "Connect": "no connection",
    "Timeout": "no answer in time",
    "Decode": "the answer was cut off",
    "Interrupted": "the connection was cut off",
    "Request": "the connection was cut off",
}
_KIND = re.compile(r"kind: (\w+)")
_TOLD_MOST = 300


@contextlib.contextmanager
def asking(where: str, what: str, secrets: Sequence[str]) -> Iterator[None]:
    """Turn errors of a remote store into those of this package.

    Parameters
    ----------
    where
        The store, for messages.
    what
        What is asked for.
    secrets
        What must not be in a message.

    Raises
    ------
    NotStoredError
        If there is no such object.
    AccessDeniedError
        If the store refuses the credentials, or what they ask for.
    UnreachableError
        If it is not reached, does not answer in time, or has no such bucket.
    """
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (StorageError, AlreadyExistsError, PreconditionError):
        raise
    except (BaseError, OSError, NotImplementedError) as error:  # what a server or a network answers
        raise _told(where, what, error) from _cause(error, secrets)


@contextlib.contextmanager
def sending(where: str, what: str, secrets: Sequence[str]) -> Iterator[None]:
    """Turn errors of a remote store into one that names what was not written.

    Raises
    ------
    NotWrittenError
        In place of all others; its `errno` says which it is.
    """
    try:
        with asking(where, what, secrets):
            yield
    except AccessDeniedError as error:
        raise NotWrittenError(errno.EACCES, f"{what} was not written: {error}") from error
    except (UnreachableError, NotStoredError) as error:
        number = error.errno or errno.EIO
        raise NotWrittenError(
            number,
            f"{what} was not written: {error}. If the answer was lost, the new one may be there "
            "whole; otherwise the old one is",
        ) from error


def _told(where: str, what: str, error: Exception) -> StorageError:
    text = str(error)
    code = _CODE.search(text)
    if code is not None and code[1] == "NoSuchBucket":
        return UnreachableError(
            errno.ENOENT, f"{where} has no such bucket: make it, or correct its name in the URL"
        )
    if isinstance(error, FileNotFoundError):
        return NotStoredError(f"{where}: nothing is kept under {what!r}")
    if isinstance(error, NotImplementedError):
        return StorageError(f"{where} cannot do this with {what!r}")
    named = {"PermissionDeniedError", "UnauthenticatedError"}
    if type(error).__name__ in named or _DENIED.search(text):
        return AccessDeniedError(
            errno.EACCES,
            f"{where} refuses access to {what!r} ({_reason(text)}): check the credentials, and "
            "whether they may do this",
        )
    timed_out = "Timeout" in text or "timed out" in text
    return UnreachableError(
        errno.ETIMEDOUT if timed_out else errno.ECONNREFUSED if "Connect" in text else errno.EIO,
        f"{where} did not give an answer about {what!r} ({_reason(text)}): check that it runs, "
        "that the endpoint is right and that the network lets you through, and try again",
    )


def _reason(text: str) -> str:
    parts = [match[1].strip() for match in (_STATUS.search(text), _CODE.search(text)) if match]
    if not parts:
        kind = _KIND.search(text)
        parts.append(_KINDS.get(kind[1], kind[1]) if kind else "the request failed")
        if "timed out" in text and kind and kind[1] != "Timeout":
            parts.append("no answer in time")
    if retries := _RETRIES.search(text):
        parts.append(f"after {retries[1]} retries")
    return ", ".join(parts)


def _cause(error: Exception, secrets: Sequence[str]) -> Exception:
    """Give what obstore said, short and without what a log must not hold."""
    # servers answer a wrong signature with all that was signed, and URLs may be signed themselves
    text = re.sub(r"\?\S*", "", str(error).split("<?xml")[0].split("\n\nDebug")[0])[:_TOLD_MOST]
    for secret in secrets:
        text = text.replace(secret, "***")
    return RuntimeError(f"{type(error).__name__}: {text.strip()}")
