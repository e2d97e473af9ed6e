"""A store of OME-Zarr on its way to an object store, in an order that readers can live with.

Objects are put one by one, and nothing puts or renames many at once. So chunks go first, then what
is said about them from the inside out, and last the document that makes the store one: before
that there is nothing to be opened, and after it nothing is missing.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polystore._errors import LayoutError, NotWrittenError
from polystore.files._writing import writing
from polystore.omezarr._check import store_problems
from polystore.omezarr._places import local_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from polystore.omezarr._remote_place import RemoteFolder

__all__ = ["Upload", "upload_store"]

_AT_ONCE = 8
_DOCUMENTS = frozenset({"zarr.json", ".zgroup", ".zattrs", ".zarray"})
_READ_BYTES = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What an upload did.

    Attributes
    ----------
    put
        Number of objects that were put.
    put_bytes
        Their size.
    there
        Number of objects that were there already, from an upload that was interrupted.
    """

    put: int
    put_bytes: int
    there: int


def upload_store(path: Path | str, target: RemoteFolder) -> Upload:
    """Copy a plate, or a single image, from a folder to an object store, where there is none yet.

    Called when all is written, for plates after `settle_plate`. Whatever interrupts it, nobody can
    open a store of which something is missing; the same call again goes on with it, and puts what
    is not there yet.

    Parameters
    ----------
    path
        Of the store.
    target
        Where it is to be, as ``RemoteFolder("s3://screens/7.zarr", access)``.

    Returns
    -------
    Upload
        What was put.

    Raises
    ------
    NotStoredError
        If there is no store at `path`.
    LayoutError
        If the store is not valid, as one that was not settled, or has a link in it; or if there is
        something else at `target`. Nothing was put.
    NotWrittenError
        If an object cannot be put; those that were stay, and cannot be opened yet.
    AccessDeniedError, UnreachableError
        If the object store does not say what is there.

    Notes
    -----
    Objects are the same when size and MD5 are: S3 and what speaks it give the MD5 of an object
    that was put in one request, which is one up to 64 MiB. Others are put again.
    """
    root = local_path(path)
    if problems := store_problems(root):
        raise LayoutError(
            f"{root} was not uploaded, it is not valid OME-Zarr: {problems[0]}; settle_plate takes "
            "out what was never written"
        )
    files = _files(root)
    there = {
        entry["path"].removeprefix(f"{target.prefix}/" if target.prefix else ""): entry
        for entry in target.objects.walk(target.prefix)
    }
    if others := sorted(there.keys() - set(files)):
        raise LayoutError(
            f"{root} was not uploaded: {target} holds {others[0]!r}, which is not of it: choose "
            "another URL, or remove what is there"
        )
    with writing(str(target)):  # a file that is gone, or that may not be read
        wanted = [name for name in files if not _is_same(root / name, there.get(name))]
    ends = [name for name in files if "/" not in name]
    if wanted and any(name in there for name in ends if name != ".zattrs"):
        raise LayoutError(
            f"{root} was not uploaded: {target} is a store already, and differs in {wanted[0]!r}: "
            "choose another URL, or remove what is there"
        )
    put_bytes = 0
    for step in _steps(wanted):
        put_bytes += _put_all(root, target, step)
    return Upload(put=len(wanted), put_bytes=put_bytes, there=len(files) - len(wanted))


def _files(root: Path) -> list[str]:
    """List what belongs to a store: not what begins with a dot, as locks and leftovers do."""
    found: list[str] = []
    for folder, folders, files in os.walk(root, onerror=_not_listed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        names = [name for name in files if not name.startswith(".") or name in _DOCUMENTS]
        for name in (*folders, *names):
            if Path(folder, name).is_symlink():
                raise LayoutError(
                    f"{root} was not uploaded: {Path(folder, name)} is a link: put there what it "
                    "leads to"
                )
        found.extend(Path(folder, name).relative_to(root).as_posix() for name in names)
    return sorted(found)


def _not_listed(error: OSError) -> None:
    raise LayoutError(f"{error.filename} was not uploaded, it cannot be listed: {error}") from error


def _steps(names: Iterable[str]) -> list[list[str]]:
    """Say what is put together: chunks, then documents from the innermost to the outermost."""
    by_step: defaultdict[tuple[int, int, bool], list[str]] = defaultdict(list)
    for name in names:
        folder, _, last = name.rpartition("/")
        depth = folder.count("/") + bool(folder)
        if last in _DOCUMENTS:
            # what has no .zgroup is no group yet
            by_step[1, -depth, last == ".zgroup"].append(name)
        else:
            by_step[0, 0, False].append(name)
    return [by_step[step] for step in sorted(by_step)]


def _put_all(root: Path, target: RemoteFolder, names: list[str]) -> int:
    def put(name: str) -> int:
        path = root / name
        try:
            size = path.stat().st_size
            with path.open("rb"):
                pass
        except OSError as error:
            raise NotWrittenError(
                error.errno,
                f"{path} was not uploaded, it cannot be read ({error.strerror}): nobody may write "
                "meanwhile",
            ) from error
        target.objects.put(f"{target.prefix}/{name}" if target.prefix else name, path)
        return size

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = [pool.submit(put, name) for name in names]
        try:
            return sum(each.result() for each in running)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _is_same(path: Path, entry: Mapping[str, Any] | None) -> bool:
    if entry is None or entry["size"] != path.stat().st_size:
        return False
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while part := stream.read(_READ_BYTES):
            digest.update(part)
    return (entry["e_tag"] or "").strip('"') == digest.hexdigest()
