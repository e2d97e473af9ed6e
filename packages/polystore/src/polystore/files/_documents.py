"""JSON documents that several processes and threads read and change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polystore._errors import NotStoredError, UnreadableError
from polystore.files._atomic import write_json
from polystore.files._checksums import read_bytes
from polystore.files._locks import LOCK_TIMEOUT_S, exclusive

if TYPE_CHECKING:
    from collections.abc import Callable

    from polystore.files._checksums import Checksum

__all__ = ["read_json", "update_json"]


def read_json(path: Path | str, *, verify: bool = True) -> Any:
    """Read a JSON document.

    Parameters
    ----------
    path
        The file.
    verify
        Whether to compare it with its checksum, if it was stored with one.

    Raises
    ------
    NotStoredError
        If there is no such file.
    ChecksumError
        If it is not what was stored.
    UnreadableError
        If it is no JSON; the message says where.
    """
    content = read_bytes(path, verify=verify)
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UnreadableError(f"{path} is no JSON: {error}") from error


def update_json(
    path: Path | str,
    change: Callable[[Any], Any],
    *,
    default: Any = None,
    fsync: bool = False,
    checksum: Checksum | None = None,
    timeout_s: float = LOCK_TIMEOUT_S,
) -> Any:
    """Change a JSON document so that no change of others who do the same is lost.

    Whoever reads it meanwhile sees it before or after. If the process is killed, the next one
    that asks goes on with what stands there.

    Parameters
    ----------
    path
        In a folder that exists.
    change
        Given the document, gives the new one. It is called once, in this thread, while all others
        that want to change the document wait; if it raises, nothing is changed. It must not
        change the same document itself.
    default
        What `change` is given where there is no document yet; None makes that an error.
    fsync, checksum
        As for `write_bytes`.
    timeout_s
        Longest wait for others, in seconds.

    Returns
    -------
    object
        The new document.

    Raises
    ------
    NotStoredError
        If there is no document, and no `default`.
    UnreadableError
        If what is there is no JSON, or not what was stored; it is left as it is.
    LockedError
        If somebody else has been changing it for `timeout_s`; the message says who.
    NotWrittenError
        If it cannot be written; what was there before still is.
    NotDurableError
        If the disk does not confirm it.
    ValueError, TypeError
        If the new document is no JSON.

    Notes
    -----
    The lock is that of flock(2); over NFS it holds between computers that mount it with locks. On
    Windows it is that of LockFile, which the tests do not try.
    """
    file = Path(path)
    with exclusive(file, timeout_s=timeout_s):
        try:
            document = read_json(file)
        except NotStoredError:
            if default is None:
                raise
            document = default
        changed = change(document)
        write_json(file, changed, fsync=fsync, checksum=checksum)
    return changed
