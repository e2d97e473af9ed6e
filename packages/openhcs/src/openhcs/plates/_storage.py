"""A plate index in one file: columns and facts in NumPy's archive format, no pickle."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlateError
from openhcs.plates._description import Description
from openhcs.plates._facts import FileCounts, PlateFacts
from openhcs.plates._findings import Finding
from openhcs.plates._index import PlateIndex
from openhcs.plates._platemap import Platemap
from openhcs.plates._profile import ImageProfile, PolynomialProfile, Profile
from openhcs.plates._rows import COLUMNS, TEXT

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["VERSION", "facts_from_json", "facts_to_json", "read_index", "write_index"]

VERSION = 2


def write_index(index: PlateIndex, path: str | Path) -> None:
    """Store an index in one file.

    Parameters
    ----------
    index
        What to store.
    path
        The file; an old one is replaced once the new one is complete.

    Raises
    ------
    OSError
        If it cannot be written.

    Notes
    -----
    A text column is its distinct texts, joined by zero bytes, and a number for each row.
    """
    arrays: dict[str, NDArray[Any]] = {"facts": _bytes(json.dumps(facts_to_json(index.facts)))}
    for name, dtype in COLUMNS.items():
        values = index.column(name)
        if dtype == TEXT:
            numbers = {text: place for place, text in enumerate(dict.fromkeys(values.tolist()))}
            arrays[f"{name}.texts"] = _bytes("\0".join(numbers))
            arrays[name] = np.array([numbers[text] for text in values], np.int32)
        else:
            arrays[name] = values
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read_index(path: str | Path) -> PlateIndex:
    """Read an index that `PlateIndex.write` stored.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    PlateIndex
        Equal to the one that was stored. The plate itself is not looked at.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    PlateError
        If it is damaged, or was written by another version.
    """
    try:
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = facts_from_json(json.loads(_text(stored["facts"])))
            columns: dict[str, NDArray[Any]] = {}
            for name, dtype in COLUMNS.items():
                values = stored[name]
                if dtype == TEXT:
                    texts = np.array(_text(stored[f"{name}.texts"]).split("\0"), TEXT)
                    values = texts[values]
                columns[name] = _column(name, values, dtype)
            return PlateIndex(facts, columns)
    except FileNotFoundError:
        raise
    except (
        OSError,
        EOFError,
        ValueError,
        KeyError,
        TypeError,
        IndexError,
        zipfile.BadZipFile,
    ) as error:
        raise PlateError(
            f"{path} is not a plate index of version {VERSION}: {error}; open the plate again"
        ) from error


def _column(name: str, values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if values.dtype != dtype or values.ndim != 1:
        raise ValueError(f"column {name} is {values.dtype} with {values.ndim} axes, not {dtype}")
    values.setflags(write=False)
    return values


def facts_to_json(facts: PlateFacts) -> dict[str, Any]:
    """Give the facts about a plate as JSON values."""
    # A described table may be long: it is written once, by its own method.
    values = asdict(replace(facts, described=None))
    return values | {
        "version": VERSION,
        "root": str(facts.root),
        "profiles": {str(channel): _stored(p) for channel, p in facts.profiles.items()},
        "platemap": facts.platemap and facts.platemap.to_json(),
        "described": facts.described and facts.described.to_json(),
    }


def facts_from_json(values: dict[str, Any]) -> PlateFacts:
    """Make the facts of what `facts_to_json` gave.

    Raises
    ------
    ValueError, KeyError, TypeError
        If they are none, or of another version.
    """
    if values.pop("version") != VERSION:
        raise ValueError("another version wrote it")
    platemap, described = values["platemap"], values["described"]
    return PlateFacts(
        **values
        | {
            "root": Path(values["root"]),
            "channel_names": tuple(values["channel_names"]),
            "findings": tuple(Finding(**finding) for finding in values["findings"]),
            "profiles": {int(c): _profile(p) for c, p in values["profiles"].items()},
            "platemap": Platemap.from_json(platemap) if platemap else None,
            "described": Description.from_json(described) if described else None,
            "files": FileCounts(**values["files"]),
        }
    )


def _stored(profile: Profile) -> dict[str, Any]:
    if isinstance(profile, PolynomialProfile):
        return asdict(profile)
    return {name: path and str(path) for name, path in asdict(profile).items()}


def _profile(values: dict[str, Any]) -> Profile:
    if "shading" in values:
        shading, dark = (path and Path(path) for path in (values["shading"], values["dark"]))
        return ImageProfile(shading=shading, dark=dark)
    return PolynomialProfile(
        coefficients=tuple(tuple(row) for row in values["coefficients"]),
        dims=tuple(values["dims"]),
        origin=tuple(values["origin"]),
        scale=tuple(values["scale"]),
    )


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint8)


def _text(stored: NDArray[np.uint8]) -> str:
    return stored.tobytes().decode("utf-8", "surrogateescape")
