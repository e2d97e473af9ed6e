"""Several files that are one thing, of which the last says that all are there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from polystore._errors import NotDurableError
from polystore.files._atomic import sync, sync_folder
from polystore.files._leftovers import partial_path
from polystore.files._writing import settling, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["atomic_files"]


@contextlib.contextmanager
def atomic_files(*, fsync: bool = False) -> Iterator[Callable[[Path, bytes | memoryview], None]]:
    """Write files that take their places one after the other when the block ends.

    The block is given a function that writes one of them, in a folder that exists; the last one
    that it writes is the last that is there. Before the first takes its place all that stood there
    are removed, the last first: whoever is killed in between leaves none of the old beside the new.

    Parameters
    ----------
    fsync
        Whether to wait until they have reached the disk, the last after all others.

    Raises
    ------
    NotWrittenError
        If one cannot be written, as on a full disk; what was there before still is.
    NotDurableError
        If they are in their places and the disk does not confirm it.
    """
    written: list[tuple[Path, Path]] = []

    def put(path: Path, content: bytes | memoryview) -> None:
        partial = partial_path(path)
        written.append((partial, path))
        with writing(path), partial.open("xb") as stream:
            stream.write(content)
            if fsync:
                stream.flush()
                sync(stream.fileno())

    try:
        yield put
        for _, path in reversed(written):
            with writing(path):
                path.unlink(missing_ok=True)
        for partial, path in written[:-1]:
            with writing(path):
                partial.replace(path)
        doubts = _settled([path for _, path in written]) if fsync else None
        for partial, path in written[-1:]:
            with writing(path):
                partial.replace(path)
        if fsync:
            doubts = doubts or _settled([path for _, path in written[-1:]])
    except BaseException:
        for partial, _ in written:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise
    if doubts is not None:
        raise doubts


def _settled(paths: list[Path]) -> NotDurableError | None:
    """Wait until names have reached the disk; give what is to be said when all are there."""
    try:
        for folder in dict.fromkeys(path.parent for path in paths):
            with settling(folder):
                sync_folder(folder)
    except NotDurableError as error:
        return error
    return None
