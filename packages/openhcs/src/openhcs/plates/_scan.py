"""One pass over a plate folder: every file, with its size and time of change."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Listing", "ScannedFile", "scan"]

_LEAVINGS = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})


@dataclass(frozen=True, slots=True)
class ScannedFile:
    """A file as the folder lists it.

    Parameters
    ----------
    path
        Relative to the scanned folder, with forward slashes.
    size, mtime_ns
        Bytes and time of change.
    """

    path: str
    size: int
    mtime_ns: int

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The path without its last part, empty for a file at the top."""
        return self.path.rpartition("/")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Every file below a folder.

    Parameters
    ----------
    root
        The folder, absolute.
    files
        Files that may belong to a plate, ordered by path.
    ignored
        Paths of hidden files and of what operating systems leave behind.
    links
        Paths of folders that are links; they are not followed.
    identity
        Hash over path, size and time of change of all `files`.
    """

    root: Path
    files: tuple[ScannedFile, ...]
    ignored: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    identity: str = field(default="")


def scan(root: str | Path) -> Listing:
    """List a folder and all below it, reading no file.

    Parameters
    ----------
    root
        The folder.

    Returns
    -------
    Listing
        What is there.

    Raises
    ------
    NotADirectoryError
        If it is a file.
    FileNotFoundError
        If it does not exist.
    PermissionError
        If a folder may not be listed.

    Notes
    -----
    One `os.scandir` per folder. The size and time of a file cost one system call each, which is
    most of the 6 µs that a file takes on a local disk.
    """
    base = Path(root).resolve()
    files: list[ScannedFile] = []
    ignored: list[str] = []
    links: list[str] = []
    pending = [("", str(base))]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                path = prefix + entry.name
                if entry.name.startswith(".") or entry.name.lower() in _LEAVINGS:
                    ignored.append(path)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((f"{path}/", entry.path))
                elif entry.is_dir():
                    links.append(path)
                else:
                    stat = _stat(entry)
                    files.append(ScannedFile(path, stat.st_size, stat.st_mtime_ns))
    files.sort(key=lambda file: file.path)
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        digest.update(
            f"{file.path}\0{file.size}\0{file.mtime_ns}\n".encode("utf-8", "surrogateescape")
        )
    return Listing(
        root=base,
        files=tuple(files),
        ignored=tuple(sorted(ignored)),
        links=tuple(sorted(links)),
        identity=digest.hexdigest(),
    )


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)  # a link to nothing is still a file that is here
