"""What writers that are gone left behind, told by its name from what is being written.

What is being written has a name of its own beside its target, which says who writes it::

    .{target}.{pid}-{start}-{host}-{boot}-{space}-{random}.partial

A process is known by its id and when it started, by the computer and that computer's boot, and by
the space that its id is counted in: ids are given again, and containers that share a folder, and
often the name of a computer, count their processes each from 1.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from polystore.files._locks import LOCK_SUFFIX, is_abandoned, remove_abandoned_lock
from polystore.files._writing import writing

__all__ = ["aside_path", "leftovers", "partial_path", "remove", "remove_leftovers"]

_LEFTOVER = re.compile(
    r"\.(?P<target>.+)\.(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-(?P<host>[0-9a-f]{8})-"
    r"(?P<boot>[0-9a-f]{8})-(?P<space>[0-9a-f]{8})-[0-9a-f]{8}\.(?P<what>partial|replaced)"
)
_NAME_MOST_BYTES = 255
_BOOT_SLACK_S = 60.0
_UNKNOWN = 0
_ENDED = -1


@dataclass(frozen=True, slots=True)
class _Place:
    """Where processes are counted: a computer, one boot of it, and a space of process ids."""

    host: str
    boot: str
    space: str


def partial_path(target: Path) -> Path:
    """Name to write `target` under, beside it; `leftovers` recognises it."""
    end = f"{_writer(os.getpid())}-{secrets.token_hex(4)}.partial"
    name = target.name
    while 1 + len(os.fsencode(name)) + len(end) > _NAME_MOST_BYTES:
        name = name[:-1]
    return target.with_name(f".{name}{end}")


def aside_path(partial: Path) -> Path:
    """Name for what stood where `partial` goes, while it takes its place."""
    return partial.with_name(partial.name.removesuffix("partial") + "replaced")


def leftovers(folder: Path | str, *, unknown_after_s: float | None = None) -> list[Path]:
    """Find what writers that are gone left in a folder and below it, sorted.

    What a process that is still alive writes is not listed.

    Parameters
    ----------
    folder
        Where to look.
    unknown_after_s
        Writers on another computer or in another container cannot be asked whether they live.
        None leaves alone what they write; a number counts it as left once nothing in it has
        changed for so many seconds.

    Notes
    -----
    What was written before this computer was started is left, because no process survives that.
    Process ids are told from later ones of the same number where the system says when a process
    started, which is Linux; on Windows no process is asked, and only `unknown_after_s` counts.
    """
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        ours = [name for name in (*folders, *files) if _LEFTOVER.fullmatch(name)]
        locks = [name for name in files if name.startswith(".") and name.endswith(LOCK_SUFFIX)]
        folders[:] = [name for name in folders if name not in ours]
        paths = [Path(root, name) for name in ours]
        found.extend(path for path in paths if _abandoned(path, unknown_after_s))
        found.extend(lock for name in locks if is_abandoned(lock := Path(root, name)))
    return sorted(found)


def remove_leftovers(folder: Path | str, *, unknown_after_s: float | None = None) -> list[Path]:
    """Remove what writers that are gone left in a folder and below it.

    Parameters
    ----------
    folder, unknown_after_s
        As for `leftovers`.

    Returns
    -------
    list of Path
        What was removed, or moved back to the name it had.

    Raises
    ------
    NotWrittenError
        If one of them cannot be removed.
    """
    removed: list[Path] = []
    for path in leftovers(folder, unknown_after_s=unknown_after_s):
        with writing(path):
            if path.name.endswith(LOCK_SUFFIX):
                if not remove_abandoned_lock(path):
                    continue
            else:
                _take_back(path)
        removed.append(path)
    return removed


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _take_back(path: Path) -> None:
    match = _LEFTOVER.fullmatch(path.name)
    assert match is not None
    target = path.with_name(match["target"])
    if match["what"] == "replaced" and not os.path.lexists(target):
        path.rename(target)
    else:
        remove(path)


def _abandoned(path: Path, unknown_after_s: float | None) -> bool:
    match = _LEFTOVER.fullmatch(path.name)
    assert match is not None
    there = _Place(match["host"], match["boot"], match["space"])
    here = _here()
    if there == here and os.name == "posix":
        return not _lives(int(match["pid"]), int(match["start"]))
    if there.host == here.host and there.boot != here.boot:
        # two computers of one name would be one here; what has changed since then is written
        booted = time.time() - _seconds_since_boot() - _BOOT_SLACK_S
        if _last_change(path) < booted:
            return True
    if unknown_after_s is None:
        return False
    return time.time() - _last_change(path) > unknown_after_s


def _last_change(path: Path) -> float:
    last = 0.0
    for each in (path, *path.rglob("*")) if path.is_dir() else (path,):
        try:
            last = max(last, each.lstat().st_mtime)
        except OSError:
            # taken away meanwhile, so that somebody is at work there
            return float("inf")
    return last


def _lives(pid: int, start: int) -> bool:
    if pid == os.getpid():
        return start == _own_start(pid)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    known = _start(pid)
    if known is None or start == _UNKNOWN:
        return known != _ENDED
    return known == start


def _start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None where the system does not say."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        fields = text.rpartition(")")[2].split()  # the name before may hold anything
        return _ENDED if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


@lru_cache(maxsize=1)  # a forked child is another process
def _writer(pid: int) -> str:
    here = _here()
    return f".{pid}-{_own_start(pid)}-{here.host}-{here.boot}-{here.space}"


@lru_cache(maxsize=1)
def _own_start(pid: int) -> int:
    return _start(pid) or _UNKNOWN


@cache
def _here() -> _Place:
    host = socket.gethostname().encode() + _read("/etc/machine-id")
    try:
        space = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        space = 0
    return _Place(
        host=_short(host),
        boot=_short(_read("/proc/sys/kernel/random/boot_id")),
        space=f"{space % 2**32:08x}",
    )


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def _short(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=4).hexdigest()


def _seconds_since_boot() -> float:
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(clock) if clock is not None else float("inf")
