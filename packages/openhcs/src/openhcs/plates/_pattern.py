"""Patterns of file names that people write: checked, and matched within bounded time."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs._errors import DescriptionError
from openhcs.plates._findings import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["GROUPS", "check_pattern", "explain_no_match", "match_paths"]

GROUPS = ("well", "row", "col", "field", "channel", "z", "t")
"""Names of the groups that a pattern may have."""

_LONGEST = 2000
_LEAST_S = 2
_PER_SECOND = 20_000
_PATIENCE = 10
"""How much longer by the clock than by the processor's time, on a computer that does other work."""
_PROCESS = Path(__file__).with_name("_pattern_process.py")


def check_pattern(pattern: str) -> frozenset[str]:
    """Refuse a pattern that cannot say which image a file is.

    Parameters
    ----------
    pattern
        A regular expression of Python with the named groups ``well`` or ``row`` and ``col``, and
        any of ``field``, ``channel``, ``z`` and ``t``.

    Returns
    -------
    frozenset
        Names of its groups.

    Raises
    ------
    DescriptionError
        If it is no regular expression, too long, or has other groups; the message has the place.
    """
    if len(pattern) > _LONGEST:
        raise DescriptionError(
            f"a pattern has at most {_LONGEST} characters; this one has {len(pattern)}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            groups = re.compile(pattern).groupindex
    except re.error as error:
        where = f"\n  {pattern}\n  {' ' * error.pos}^" if error.pos is not None else f": {pattern}"
        raise DescriptionError(
            f"the pattern is no regular expression: {error.msg}{where}"
        ) from error
    except FutureWarning as error:
        raise DescriptionError(
            f"the pattern will mean something else in a later Python ({error}): put a backslash "
            f"before the sign that is meant as it stands\n  {pattern}"
        ) from error
    except (RecursionError, OverflowError) as error:
        raise DescriptionError(f"the pattern is nested too deeply: {pattern[:60]}…") from error
    for name in groups:
        if name not in GROUPS:
            near = difflib.get_close_matches(name, GROUPS, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DescriptionError(
                f"the pattern has a group {name!r}; groups are {', '.join(GROUPS)}{hint}"
            )
    if "well" in groups and ("row" in groups or "col" in groups):
        raise DescriptionError("the pattern has the group well, and row or col as well: choose one")
    if ("row" in groups) != ("col" in groups):
        lack = "col" if "row" in groups else "row"
        raise DescriptionError(f"the pattern has no group {lack!r}: a well needs both row and col")
    return frozenset(groups)


def match_paths(pattern: str, paths: Sequence[str]) -> list[Mapping[str, str | None] | None]:
    """Match a pattern against whole paths.

    Parameters
    ----------
    pattern
        One that `check_pattern` accepts.
    paths
        Relative to the plate, with forward slashes.

    Returns
    -------
    list
        For each path the text of every group, or None where the pattern does not fit.

    Raises
    ------
    DescriptionError
        If it takes too long; the message names the path at which it got stuck.

    Notes
    -----
    Some patterns take time that doubles with every character of a path, and Python's matching
    cannot be interrupted. A process of its own does it, which may use 2 s of the processor and a
    second for every 20,000 paths, ten times that by the clock, and 1 GiB of memory. Ordinary
    patterns take 1.3 s for 100,000 paths, and 0.7 s to hand them over.
    """
    seconds = _LEAST_S + len(paths) // _PER_SECOND
    document = json.dumps({"pattern": pattern, "paths": list(paths), "seconds": seconds})
    try:
        result = subprocess.run(  # our own file
            [sys.executable, "-I", "-S", str(_PROCESS)],
            input=document.encode("ascii"),
            capture_output=True,
            timeout=_PATIENCE * seconds,
            check=False,
        )
        output, status = result.stdout, result.returncode
    except subprocess.TimeoutExpired as expired:
        output, status = expired.output or b"", -1
    lines = output.split(b"\n")[:-1]
    if status != 0 or len(lines) != len(paths):
        stuck = paths[len(lines)] if len(lines) < len(paths) else ""
        raise DescriptionError(
            f"the pattern takes too long: {len(lines)} of {len(paths)} paths were tried, and it "
            f"got stuck at {stuck!r}. A repeat within a repeat, such as (a+)+, or several .* in a "
            f"row can match in too many ways: write [^/_]+ or \\d+ in their place"
        )
    return [json.loads(line) for line in lines]


def explain_no_match(pattern: str, paths: Sequence[str]) -> str:
    """Say why a pattern fits no path, as far as that can be seen.

    Parameters
    ----------
    pattern
        One that `check_pattern` accepts.
    paths
        What it did not fit.

    Returns
    -------
    str
        Examples, and a hint where a likely mistake explains it.
    """
    shown = some((repr(path) for path in paths), 3)
    text = f"the pattern fits none of {len(paths)} files, such as {shown}"
    sample = paths[:: max(1, len(paths) // 50)][:50]
    hints = {
        rf"(?:.*/)?(?:{pattern})": "it fits names without their folder: begin it with (?:.*/)?",
        rf"(?:{pattern})\.(?:tiff?|TIFF?)": "it fits without the extension: end it with \\.tif",
        rf"(?i:{pattern})": "it differs in upper and lower case only",
    }
    for other, hint in hints.items():
        try:
            if any(match_paths(other, sample)):
                return f"{text}; {hint}"
        except DescriptionError:
            continue
    return f"{text}; it must fit the whole path below the plate's folder, with forward slashes"
