"""One pass over a plate folder: every file, with its size and time of change."""

from __future__ import annotations

import hashlib
import os
import stat as file_modes
from dataclasses import dataclass, field
from pathlib import Path

from openhcs.plates._stores import DOCUMENTS, array_state, is_array

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
    is_array
        Whether it is the folder of an array in a Zarr store, with all its chunks: then size and
        time are those of the chunks that were looked at (see `array_state`).
    """

    path: str
    size: int
    mtime_ns: int
    is_array: bool = False

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
        Files that may belong to a plate, ordered by path. An array of a Zarr store is one of them,
        whatever files its chunks are in.
    ignored
        Paths of hidden files and of what operating systems leave behind.
    links
        Paths of folders that are links; they are not followed.
    special
        Paths of what is neither file nor folder, such as a pipe, a device, or a link to itself.
    closed
        Path and reason of folders below `root` that cannot be listed.
    identity
        Hash over path, size and time of change of all `files`, over the state of arrays, and over
        what could not be listed.
    entry
        Path of the file that was opened in place of the folder; empty when it was the folder.
    """

    root: Path
    files: tuple[ScannedFile, ...]
    ignored: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    special: tuple[str, ...] = ()
    closed: tuple[tuple[str, str], ...] = ()
    identity: str = field(default="")
    entry: str = ""


def scan(root: str | Path, entry: str = "") -> Listing:
    """List a folder and all below it, reading no file but the documents of Zarr v3.

    Parameters
    ----------
    root
        The folder.
    entry
        File of it that was opened in its place.

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
    OSError
        If the folder itself cannot be listed.

    Notes
    -----
    What went away between its folder's listing and the look at it is not there.

    One `os.scandir` per folder. The size and time of a file cost one system call each, which is
    most of the 6 µs that a file takes on a local disk.
    """
    base = Path(root).resolve()
    walk = _Walk()
    pending = [_Folder("", str(base), in_store=False)]
    while pending:
        pending += walk.look(pending.pop())
    walk.files.sort(key=lambda file: file.path)
    digest = hashlib.blake2b(digest_size=16)
    for file in walk.files:
        state = walk.states.get(file.path, file.mtime_ns)
        digest.update(f"{file.path}\0{file.size}\0{state}\n".encode("utf-8", "surrogateescape"))
    for path, why in sorted(walk.closed):
        digest.update(f"{path}\0{why}\n".encode("utf-8", "surrogateescape"))
    return Listing(
        root=base,
        files=tuple(walk.files),
        ignored=tuple(sorted(walk.ignored)),
        links=tuple(sorted(walk.links)),
        special=tuple(sorted(walk.special)),
        closed=tuple(sorted(walk.closed)),
        identity=digest.hexdigest(),
        entry=entry,
    )


@dataclass(frozen=True, slots=True)
class _Folder:
    prefix: str
    place: str
    in_store: bool


class _Walk:
    """Collects what is in folders."""

    def __init__(self) -> None:
        self.files: list[ScannedFile] = []
        self.ignored: list[str] = []
        self.links: list[str] = []
        self.special: list[str] = []
        self.closed: list[tuple[str, str]] = []
        self.states: dict[str, str] = {}

    def look(self, folder: _Folder) -> list[_Folder]:
        """List one folder; gives the folders in it that are to be listed."""
        prefix = folder.prefix
        try:
            with os.scandir(folder.place) as listed:
                entries = [*listed]
        except OSError as error:
            if not prefix:
                raise
            if not isinstance(error, FileNotFoundError):
                self.closed.append((prefix[:-1], error.strerror or str(error)))
            return []
        names = {entry.name for entry in entries if entry.name not in DOCUMENTS or _is_file(entry)}
        in_store = folder.in_store or not names.isdisjoint(DOCUMENTS)
        below: dict[str, _Folder] = {}
        files: list[os.DirEntry[str]] = []
        for entry in entries:
            if _is_leaving(entry.name) and not (in_store and entry.name in DOCUMENTS):
                self.ignored.append(prefix + entry.name)
            elif entry.is_dir(follow_symlinks=False):
                below[entry.name] = _Folder(f"{prefix}{entry.name}/", entry.path, in_store)
            elif _leads_to_folder(entry):
                self.links.append(prefix + entry.name)
            else:
                files.append(entry)
        array = in_store and is_array(folder.place, names, below)
        for entry in files:
            if not array or entry.name in DOCUMENTS:
                self._take(prefix + entry.name, entry)
        if array:
            path = prefix[:-1]
            try:
                state = array_state(folder.place)
            except OSError as error:
                self.closed.append((path, error.strerror or str(error)))
                return []
            self.files.append(ScannedFile(path, state.size, state.mtime_ns, is_array=True))
            self.states[path] = state.digest
            return []
        return [*below.values()]

    def _take(self, path: str, entry: os.DirEntry[str]) -> None:
        stat = _stat(entry)
        if stat is None:
            return  # it went away
        if file_modes.S_ISREG(stat.st_mode) or file_modes.S_ISLNK(stat.st_mode):
            self.files.append(ScannedFile(path, stat.st_size, stat.st_mtime_ns))
        else:
            # to open a pipe is to wait for whoever writes into it, perhaps for ever
            self.special.append(path)


def _is_leaving(name: str) -> bool:
    return name.startswith(".") or name.lower() in _LEAVINGS


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads nowhere


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    for follow in (True, False):  # a link to nothing is still a file that is here
        try:
            return entry.stat(follow_symlinks=follow)
        except OSError:
            continue
    return None
