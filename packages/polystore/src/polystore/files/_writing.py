"""Errors of the operating system while something is written, said to people."""

from __future__ import annotations

import contextlib
import errno
import re
from typing import TYPE_CHECKING

from polystore._errors import NotDurableError, NotWrittenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["settling", "writing"]

# people know the name that it will have, not the one that it is written under
_PARTIAL = re.compile(r"\.([^/\\]+)\.[0-9]+-[0-9]+-[0-9a-f]{8}-[0-9a-f-]+\.partial")
# numpy writes arrays with fwrite, and says how much it wrote instead of why not more
_SHORT = re.compile(r"[0-9]+ requested and [0-9]+ written")


@contextlib.contextmanager
def writing(target: Path | str) -> Iterator[None]:
    """Turn errors of the operating system into one that names what was not written.

    Raises
    ------
    NotWrittenError
        In place of any OSError in the block.
    """
    try:
        yield
    except (NotWrittenError, NotDurableError):
        raise
    except OSError as error:
        number, reason = error.errno, error.strerror or str(error)
        if number is None and _SHORT.fullmatch(reason):
            number, reason = errno.ENOSPC, f"no room for all of it ({reason})"
        advice = {
            errno.ENOSPC: "make room on the disk and run again",
            errno.EDQUOT: "make room in your quota and run again",
            errno.EFBIG: "the file would be larger than is allowed here",
            errno.EACCES: "you may not write there",
            errno.EROFS: "the disk is read-only",
            errno.ENOENT: "the folder it goes into does not exist",
            errno.ENAMETOOLONG: "give it a shorter name",
            errno.EIO: "the disk may be failing: look at the system's log before you go on",
        }.get(number or 0, "what stood there before still stands")
        name = _PARTIAL.sub(r"\1", str(target))
        raise NotWrittenError(number, f"{name} was not written: {reason}; {advice}") from error


@contextlib.contextmanager
def settling(target: Path | str) -> Iterator[None]:
    """Say that something is in its place, and may not survive a power cut.

    Raises
    ------
    NotDurableError
        In place of any OSError in the block.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotDurableError(
            error.errno,
            f"{target} is written, but the disk did not confirm that it has reached it: {reason}; "
            "look at the system's log, and write it again before you rely on it",
        ) from error
