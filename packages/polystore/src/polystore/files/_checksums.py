"""Checksums of files, kept beside them and compared when they are read.

The checksum of ``a.tif`` is in ``.a.tif.sum``, which the programs ``xxhsum`` and ``sha256sum``
understand: ``xxhsum --check .a.tif.sum``. While a file is being replaced both its old and its new
checksum stand there, so that whoever is killed leaves a file that agrees with one of them.

Notes
-----
XXH128 is the 128-bit hash of xxHash 0.8 (XXH3 family), SHA-256 is of FIPS 180-4. Both find any
accident; that somebody meant to deceive can only be found with SHA-256, and only if the checksum is
kept elsewhere. One pass of XXH128 takes no longer than copying the bytes, one of SHA-256 six to
nine times as long.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from polystore._errors import ChecksumError, MissingExtraError, NotStoredError, UnreadableError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__all__ = [
    "Checksum",
    "Sum",
    "check_file",
    "has_sums",
    "open_verified",
    "read_bytes",
    "read_sums",
    "require",
    "sum_of",
    "sum_of_file",
    "sum_path",
    "sums_text",
]

_LINE = re.compile(r"(?P<kind>XXH128|SHA256) \((?P<name>.+)\) = (?P<digest>[0-9a-f]{32,64})")
_MOST_BYTES = 64 * 1024
_PIECE_BYTES = 4 * 1024**2
_ATTEMPTS = 50


class Checksum(StrEnum):
    """How a checksum is computed."""

    XXH128 = "xxh128"
    """As fast as memory is read; needs the extra ``checksums``."""

    SHA256 = "sha256"
    """Needs nothing, is known everywhere, and takes about as long as writing to a good disk."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One checksum."""

    kind: Checksum
    digest: str


def require(kind: Checksum) -> None:
    """Check that a checksum can be computed, before anything is written.

    Raises
    ------
    MissingExtraError
        If xxhash is needed and not installed.
    """
    _hasher(kind)


def sum_path(target: Path) -> Path:
    """Name of the file with the checksums of `target`."""
    return target.with_name(f".{target.name}.sum")


def has_sums(target: Path | str) -> bool:
    """Say whether there are checksums of `target`."""
    # as text: making a Path takes longer than asking the disk, and every read asks
    folder, name = os.path.split(target)
    return os.path.lexists(os.path.join(folder, f".{name}.sum"))  # noqa: PTH118


def sum_of(content: bytes | memoryview, kind: Checksum) -> Sum:
    """Compute the checksum of bytes in memory.

    Raises
    ------
    MissingExtraError
        If xxhash is needed and not installed.
    """
    state = _hasher(kind)()
    state.update(content)
    return Sum(kind, state.hexdigest())


def sum_of_file(path: Path, kind: Checksum) -> Sum:
    """Compute the checksum of a file, in little memory.

    Raises
    ------
    MissingExtraError
        If xxhash is needed and not installed.
    OSError
        If it cannot be read.
    """
    state = _hasher(kind)()
    piece = memoryview(bytearray(_PIECE_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(piece):
            state.update(piece[:count])
    return Sum(kind, state.hexdigest())


def sums_text(name: str, sums: Collection[Sum]) -> bytes:
    """Write checksums as the programs that check them read them."""
    name = name.replace("\n", "\\n")
    lines = [f"{each.kind.value.upper()} ({name}) = {each.digest}\n" for each in sums]
    return "".join(lines).encode("utf-8", "surrogateescape")


def read_sums(target: Path) -> frozenset[Sum]:
    """Read the checksums that a file may have; none where none were asked for.

    Raises
    ------
    UnreadableError
        If what is beside it are no checksums.
    """
    path = sum_path(target)
    if not has_sums(target):
        return frozenset()
    try:
        with path.open("rb") as stream:
            content = stream.read(_MOST_BYTES)
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error}") from error
    lines = content.decode("utf-8", "surrogateescape").removesuffix("\n").split("\n")
    matches = [_LINE.fullmatch(line) for line in lines]
    found = frozenset(Sum(Checksum[each["kind"]], each["digest"]) for each in matches if each)
    if not found or None in matches:
        raise UnreadableError(
            f"{path} holds no checksums, so that {target} cannot be verified: compare it with a "
            "copy, then store it again or remove the checksum file"
        )
    return found


def read_bytes(path: Path | str, *, verify: bool = True) -> bytes:
    """Read a file, and compare it with its checksum if it was stored with one.

    Parameters
    ----------
    path
        The file.
    verify
        False does not look at the checksum.

    Raises
    ------
    NotStoredError
        If there is no such file.
    ChecksumError
        If it is not what was stored.
    UnreadableError
        If it, or its checksum, cannot be read.
    MissingExtraError
        If its checksum needs xxhash, which is not installed.
    """
    file = Path(path)
    if not verify:
        return _content(file)
    content = _verified(file, _content)
    assert content is not None
    return content


def check_file(path: Path | str) -> bool:
    """Compare a file with its checksum, without holding it in memory.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    bool
        True if it is what was stored; False if it was stored without a checksum.

    Raises
    ------
    NotStoredError
        If there is no such file.
    ChecksumError
        If it is not what was stored.
    UnreadableError
        If it, or its checksum, cannot be read.
    MissingExtraError
        If its checksum needs xxhash, which is not installed.
    """
    file = Path(path)
    if not file.exists():
        raise NotStoredError(f"{file}: there is no such file")
    if not read_sums(file):
        return False
    _verified(file, lambda _: None)
    return True


def open_verified(file: Path, opened: Callable[[], IO[bytes]]) -> IO[bytes]:
    """Open a file, read all of it in little memory, and compare it with its checksum if it has one.

    Parameters
    ----------
    file
        Its name.
    opened
        Opens it.

    Returns
    -------
    file
        At its start: the one that was compared, also when another takes its place.

    Raises
    ------
    ChecksumError
        If it is not what was stored.
    UnreadableError
        If it, or its checksum, cannot be read.
    MissingExtraError
        If its checksum needs xxhash, which is not installed.
    """
    for _ in range(_ATTEMPTS):
        stream = opened()
        try:
            sums = read_sums(file)
            if not sums or _agrees(stream, file, sums):
                stream.seek(0)
                return stream
            replaced = read_sums(file) != sums or _state(file) != _told(os.fstat(stream.fileno()))
        except BaseException:
            stream.close()
            raise
        stream.close()
        if not replaced:
            break
    raise _damaged(file)


def _agrees(stream: IO[bytes], file: Path, sums: Collection[Sum]) -> bool:
    piece = memoryview(bytearray(_PIECE_BYTES))
    for kind in sorted({each.kind for each in sums}):
        state = _hasher(kind)()
        try:
            stream.seek(0)
            while piece_bytes := stream.readinto(piece):  # type: ignore[attr-defined]  # a file has it
                state.update(piece[:piece_bytes])
        except OSError as error:
            raise UnreadableError(f"{file} cannot be read: {error}") from error
        if Sum(kind, state.hexdigest()) in sums:
            return True
    return False


def _verified(file: Path, read: Callable[[Path], bytes | None]) -> bytes | None:
    """Read a file and verify it; without content, the file itself is read for its checksum."""
    for _ in range(_ATTEMPTS):
        state = _state(file)
        before = read_sums(file)
        content = read(file)
        if not before or _is_one_of(file, content, before):
            return content
        # whoever replaces it writes both checksums first, so that one of these is the right one
        after = read_sums(file)
        if not after or _is_one_of(file, content, after):
            return content
        if after == before and _state(file) == state:
            break  # nobody replaced it meanwhile, not even twice
    raise _damaged(file)


def _damaged(file: Path) -> ChecksumError:
    return ChecksumError(
        f"{file} is not what was stored: its checksum is not the one in {sum_path(file)}. A disk "
        "or a copy has damaged it, or something else has changed it: take it from a copy, or make "
        "it again; if it was changed on purpose, remove the checksum file"
    )


def _state(file: Path) -> tuple[int, ...] | None:
    """Tell a file from the one that was there before."""
    try:
        return _told(file.stat())
    except OSError:
        return None  # whoever reads it is told why


def _told(status: os.stat_result) -> tuple[int, ...]:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_one_of(file: Path, content: bytes | None, sums: Collection[Sum]) -> bool:
    for kind in sorted({each.kind for each in sums}):
        try:
            found = sum_of_file(file, kind) if content is None else sum_of(content, kind)
        except FileNotFoundError as error:
            raise NotStoredError(f"{file}: there is no such file") from error
        except OSError as error:
            raise UnreadableError(f"{file} cannot be read: {error}") from error
        if found in sums:
            return True
    return False


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise NotStoredError(f"{file}: there is no such file") from error
    except OSError as error:
        raise UnreadableError(f"{file} cannot be read: {error}") from error


def _hasher(kind: Checksum) -> Callable[[], Any]:
    if kind is Checksum.SHA256:
        return hashlib.sha256
    try:
        import xxhash
    except ImportError as error:
        raise MissingExtraError(
            "the checksum xxh128 needs xxhash: install polystore[checksums], or use sha256"
        ) from error
    return xxhash.xxh3_128
