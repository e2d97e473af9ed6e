"""The folder of a store on a disk: what stands in it under a key, and nothing behind a link."""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from pathlib import Path

from polystore._errors import KeyNameError, NotWrittenError, UnreadableError
from polystore._keys import check_key
from polystore.files._writing import writing

__all__ = ["TRIES", "FolderTree", "can_be_key", "unreadable"]

TRIES = 100
"""So often a folder may be taken away between making it and writing into it."""


class FolderTree:
    """Files and folders below a root, by key.

    Parameters
    ----------
    root
        Of the store; it need not exist, and may itself be a link.
    folds_case
        Whether the disk takes names for one that differ in case, or in how an accent is written;
        found out if not given.
    """

    def __init__(self, root: Path | str, *, folds_case: bool | None = None) -> None:
        self.root = Path(root).absolute()
        self._text = str(self.root)
        self.folds_case = _folds_case(self.root) if folds_case is None else folds_case

    def path(self, key: str) -> Path:
        """Path of a key, which is checked."""
        return self.root / check_key(key)

    def look(self, key: str) -> tuple[str, int]:
        """Return the path of a key and its mode, or those of the first link on the way there.

        Raises
        ------
        OSError
            If there is nothing, or it may not be looked at.
        """
        # in plain text: making a Path of each step takes longer than asking the disk
        step, mode = self._text, 0
        for part in key.split("/"):
            step = f"{step}{os.sep}{part}"
            mode = os.lstat(step).st_mode
            if stat.S_ISLNK(mode):
                break
        return step, mode

    def mode(self, key: str) -> int:
        """Return the mode of what a key is of, or 0 where there is nothing.

        Raises
        ------
        UnreadableError
            If it may not be looked at.
        """
        try:
            return self.look(key)[1]
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            raise unreadable(self.path(key), error) from error

    def is_folder(self, name: str) -> bool:
        """Say whether there is a folder, reached without a link."""
        return stat.S_ISDIR(self.mode(name))

    def make_folder(self, key: str) -> None:
        """Make the folder that what is kept under a key goes into.

        Raises
        ------
        KeyNameError
            If a file is in the way, or a name that the disk takes for this one.
        NotWrittenError
            If it cannot be made, or is behind a link.
        """
        path = self.path(key)
        if self.folds_case:
            self._check_alone(path, key)
        folder = path.parent
        above = key.rpartition("/")[0]
        if above and stat.S_ISLNK(self.mode(above)):
            link = self.look(above)[0]
            raise NotWrittenError(
                errno.ELOOP,
                f"{key!r} was not written: {link} is a link, and links are not followed here",
            )
        try:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
        except NotWrittenError as error:
            if error.errno not in {errno.ENOTDIR, errno.EEXIST} or folder == self.root:
                raise
            for each in (folder, *folder.parents):
                if each.exists() and not each.is_dir():
                    raise KeyNameError(
                        f"{key!r} cannot be kept below {each}, which is a file"
                    ) from error
            # what was in the way is gone; writing finds out whether the folder is there

    def remove_empty(self, path: Path) -> None:
        """Remove the folders above a path that are empty now."""
        for folder in path.parents:
            if folder == self.root:
                break
            try:
                folder.rmdir()
            except OSError:
                break  # something else is in it, which is no error

    def _check_alone(self, path: Path, key: str) -> None:
        """Refuse a name that the disk takes for another one, at any depth."""
        parent = self.root
        for part in path.relative_to(self.root).parts:
            try:
                names = [path.name for path in parent.iterdir()]
            except OSError:
                return
            if part not in names:
                folded = _folded(part)
                if twin := next((name for name in names if _folded(name) == folded), None):
                    raise KeyNameError(
                        f"{key!r} cannot be kept beside {parent / twin}: this disk takes the two "
                        "names for one"
                    )
                return
            parent /= part


def can_be_key(name: str) -> bool:
    """Say whether a name can be a key."""
    try:
        check_key(name)
    except KeyNameError:
        return False
    return True


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """Say that something cannot be read, and why."""
    return UnreadableError(error.errno, f"{path} cannot be read: {error.strerror or error}")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _folds_case(folder: Path) -> bool:
    """Say whether the disk takes names for one that differ in case, by the folder's own name."""
    for path in (folder, *folder.parents):
        swapped = path.with_name(path.name.swapcase()) if path.name else path
        if swapped == path or not path.exists():
            continue
        try:
            return swapped.samefile(path)
        except OSError:
            return False
    return False
