"""Payloads in files below one folder, in the formats that their names say."""

from __future__ import annotations

import errno
import io
import os
import stat
import struct
from typing import IO, TYPE_CHECKING

from polystore._errors import (
    FormatError,
    KeyNameError,
    NotStoredError,
    NotWrittenError,
    StorageError,
    UnreadableError,
)
from polystore._keys import Folder, check_folder, check_key
from polystore._kinds import Kind
from polystore._protocols import Capabilities
from polystore.backends._folder_tree import TRIES, FolderTree, can_be_key, unreadable
from polystore.backends._keyed import Keyed, keys_by_folder
from polystore.files._atomic import atomic_file, delete_file
from polystore.files._checksums import Checksum, has_sums, open_verified, read_bytes
from polystore.formats import Formats, NpyFormat, standard_formats
from polystore.formats._registry import SAVED_AS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from polystore._payload import Payload
    from polystore.formats import Format

__all__ = ["DiskStore"]


class DiskStore(Keyed):
    """Keeps payloads in files below a folder; a `Reader`, a `Writer` and a `DataSink`.

    The file of a key is the key below the folder, and its end says the format. Files that others
    put there are keys too, if their names can be keys and say a format that is here. All other
    files are left alone. Links below the folder are never followed, so that nothing outside is
    read or written.

    Parameters
    ----------
    root
        The folder; it is made when something is first stored. It may itself be a link.
    formats
        Those of this store; all that there are if not given.
    saved_as
        Ends of the names that `save` gives, by kind, where they are not to be ``.npy`` for arrays
        and ``.json`` for all else.
    fsync
        Whether storing waits until the file has reached the disk, so that it also survives a power
        cut.
    checksum
        How a checksum of each file is made, which is kept beside it (`Checksum`); None makes none.
        A file that has one is compared with it whenever it is loaded, whatever is said here.
    folds_case
        Whether the disk takes names for one that differ in case, or in how an accent is written;
        found out if not given.

    Raises
    ------
    UnknownFormatError
        If `saved_as` has a suffix that is not one of the formats'.

    Notes
    -----
    A file is written beside its place and takes it by one rename (`atomic_file`): readers have the
    old or the new one, in this process and in others, and a process that is killed leaves at most
    a leftover, which `leftovers` finds and `remove_leftovers` removes. Several threads and
    processes may read and write at once; of two that write one key, one is the last.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        formats: Formats | None = None,
        saved_as: Mapping[Kind, str] | None = None,
        fsync: bool = False,
        checksum: Checksum | None = None,
        folds_case: bool | None = None,
    ) -> None:
        self._tree = FolderTree(root, folds_case=folds_case)
        self._formats = standard_formats() if formats is None else formats
        for suffix in (saved_as or {}).values():
            self._formats.of(f"file{suffix}")
        self._saved_as = {**SAVED_AS, **(saved_as or {})}
        self._fsync = fsync
        self._checksum = checksum

    @property
    def root(self) -> Path:
        """The folder."""
        return self._tree.root

    @property
    def formats(self) -> Formats:
        """The formats; what is added to them can be stored."""
        return self._formats

    @property
    def capabilities(self) -> Capabilities:
        """It holds what its formats hold, and keeps it when this process is gone."""
        return Capabilities(
            takes=True,
            reads=True,
            writes=True,
            lasts=True,
            kinds=frozenset[Kind]().union(*(each.kinds for each in self._formats)),
            suffixes=self._formats.suffixes,
            folds_case=self._tree.folds_case,
        )

    def store(self, key: str, payload: Payload) -> None:
        """Keep a payload in the file of `key`, in place of what was there.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key, is a folder of others or lies below one, or cannot be told
            from another by this disk.
        UnknownFormatError
            If `key` does not end in the suffix of a format.
        FormatError
            If the format cannot hold the payload; the message says which could.
        NotWrittenError
            If it cannot be written, as on a full disk; what was there before still is.
        MissingExtraError
            If the library that does the work is not installed.
        """
        path = self._tree.path(key)
        found = self._formats.check(key, payload)
        for tries_left in reversed(range(TRIES)):
            try:
                self._tree.make_folder(key)
                if path.is_dir() and not path.is_symlink():
                    raise KeyNameError(f"{key!r} cannot be a key: {path} is a folder")
                with atomic_file(path, fsync=self._fsync, checksum=self._checksum) as stream:
                    _write(found, payload, stream, key)
            except NotWrittenError as error:
                # whoever deletes the last file of a folder deletes the folder too
                if error.errno != errno.ENOENT or not tries_left:
                    raise
            else:
                return

    def load(self, key: str) -> Payload:
        """Read the file of `key` into memory.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        UnknownFormatError
            If it does not end in the suffix of a format.
        NotStoredError
            If there is no such file.
        UnreadableError
            If the file is damaged, is no plain file, or must not be read; the message names it.
        ChecksumError
            If it was stored with a checksum, and is not what was stored.
        MissingExtraError
            If the library that does the work is not installed.
        """
        found = self._formats.of(check_key(key))
        with self._open(key) as stream:
            if has_sums(stream.name):
                return found.read(io.BytesIO(read_bytes(stream.name)), stream.name)
            return found.read(stream, stream.name)

    def load_mapped(self, key: str, *, verify: bool = True) -> Payload:
        """Read the NPY file of `key`, whose elements stay on the disk until they are looked at.

        The payload is of the file as it is now, also when another takes its place later.

        Parameters
        ----------
        key
            Of the payload.
        verify
            Whether a file that was stored with a checksum is compared with it: once, before it is
            mapped, which takes reading all of it, in little memory. What the disk gives for an
            element that is looked at later is not compared again. False maps it at once.

        Raises
        ------
        KeyNameError, NotStoredError, UnreadableError
            As `load`.
        ChecksumError
            If it was stored with a checksum, and is not what was stored.
        MissingExtraError
            If its checksum needs xxhash, which is not installed.
        FormatError
            If the file is of another format.
        """
        found = self._formats.of(check_key(key))
        if not isinstance(found, NpyFormat):
            raise FormatError(
                f"{key!r} is {found.name}, and only NPY files can be mapped: use load, or store it "
                "as .npy"
            )
        path = self._tree.path(key)
        with open_verified(path, lambda: self._open(key)) if verify else self._open(key) as stream:
            return found.read_mapped(stream, stream.name)

    def exists(self, key: str) -> bool:
        """Say whether there is a file of `key`, in a format that is here.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        """
        check_key(key)
        return self._formats.find(key) is not None and stat.S_ISREG(self._tree.mode(key))

    def keys(self, prefix: str = "") -> list[str]:
        """List the keys of all files that start with `prefix`, sorted.

        Raises
        ------
        UnreadableError
            If a folder cannot be listed.
        """
        start = prefix.rpartition("/")[0]
        if start and not prefix.startswith("/") and not self._tree.is_folder(start):
            return []
        return keys_by_folder(self._list, prefix)

    def folder(self, name: str = "") -> Folder:
        """List what lies directly in a folder; of folders in it, also those without a key.

        Raises
        ------
        KeyNameError
            If `name` is neither empty nor could be a key.
        UnreadableError
            If the folder cannot be listed.
        """
        if check_folder(name) and not self._tree.is_folder(name):
            return Folder(name=name, folders=(), keys=())
        return self._list(name)

    def delete(self, key: str) -> None:
        """Remove the file of `key`, and the folders that are empty without it.

        Raises
        ------
        KeyNameError
            If `key` cannot be a key.
        NotStoredError
            If there is no such file.
        NotWrittenError
            If it cannot be removed.
        """
        path = self._tree.path(key)
        if not self.exists(key):
            raise NotStoredError(f"{path}: nothing is kept under {key!r}")
        delete_file(path)
        self._tree.remove_empty(path)

    def _suffix(self, kind: Kind) -> str:
        return self._saved_as[kind]

    def _open(self, key: str) -> IO[bytes]:
        place = self._tree.path(key)
        try:
            path, mode = self._tree.look(key)
            if stat.S_ISREG(mode):
                return open(path, "rb")  # noqa: PTH123  # the caller closes it
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotStoredError(f"{place}: nothing is kept under {key!r}") from error
        except OSError as error:
            raise unreadable(place, error) from error
        if stat.S_ISDIR(mode):
            raise NotStoredError(f"{path} is a folder: nothing is kept under {key!r}")
        if stat.S_ISLNK(mode):
            raise UnreadableError(
                f"{path} is a link, and links are not followed here: put the file itself there"
            )
        raise UnreadableError(f"{path} is no file that could be read")

    def _list(self, name: str) -> Folder:
        start = f"{name}/" if name else ""
        folders: list[str] = []
        keys: list[str] = []
        path = self._tree.root / name
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    whole = start + entry.name
                    if not can_be_key(whole):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(whole)
                    elif entry.is_file(follow_symlinks=False) and self._formats.find(entry.name):
                        keys.append(whole)
        except (FileNotFoundError, NotADirectoryError):
            pass  # it was taken away, which is as if it had never been
        except OSError as error:
            raise unreadable(path, error) from error
        return Folder(name=name, folders=tuple(sorted(folders)), keys=tuple(sorted(keys)))


def _write(found: Format, payload: Payload, stream: IO[bytes], key: str) -> None:
    try:
        found.write(payload, stream)
    except (OSError, StorageError):
        raise
    except (ValueError, TypeError, RuntimeError, OverflowError, struct.error) as error:
        raise FormatError(f"{key!r} cannot be written as {found.name}: {error}") from error
