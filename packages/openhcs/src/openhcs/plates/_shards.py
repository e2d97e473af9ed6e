"""A plate index in a folder, of which the rows of one well are read without the others.

Worker processes read a well at a time. Whatever the size of the plate, one takes as much memory as
its well: columns are mapped, and texts lie in one file with the place of each.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import PlateError
from openhcs.plates._index import PlateIndex
from openhcs.plates._rows import COLUMNS, TEXT
from openhcs.plates._storage import facts_from_json, facts_to_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IndexShards", "write_shards"]

_FACTS = "facts.json"
_WELLS = "wells.json"


def write_shards(index: PlateIndex, folder: str | Path) -> None:
    """Write an index so that single wells can be read from it.

    Parameters
    ----------
    index
        What to write. Its findings, conditions and description are left out.
    folder
        An empty folder.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    target = Path(folder)
    wells = index.column("well")
    order = np.argsort(wells.astype(str), kind="stable")
    names, first = np.unique(wells.astype(str)[order], return_index=True)
    bounds = [*first.tolist(), len(wells)]
    spans = {name: bounds[n : n + 2] for n, name in enumerate(names.tolist())}
    for name, dtype in COLUMNS.items():
        values = index.column(name)[order]
        if dtype == TEXT:
            numbers = {text: place for place, text in enumerate(dict.fromkeys(values.tolist()))}
            encoded = [text.encode("utf-8", "surrogateescape") for text in numbers]
            places = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
            _save(target / f"{name}.texts.npy", np.frombuffer(b"".join(encoded), np.uint8))
            _save(target / f"{name}.places.npy", places)
            values = np.array([numbers[text] for text in values], np.int32)
        _save(target / f"{name}.npy", values)
    facts = replace(index.facts, findings=(), platemap=None, described=None)
    (target / _FACTS).write_text(json.dumps(facts_to_json(facts)), "utf-8")
    (target / _WELLS).write_text(json.dumps(spans), "utf-8")


class IndexShards:
    """An index that `write_shards` wrote.

    Parameters
    ----------
    folder
        Where it lies.

    Raises
    ------
    PlateError
        If there is none, or it is damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        try:
            self._facts = facts_from_json(json.loads((self._folder / _FACTS).read_bytes()))
            spans = json.loads((self._folder / _WELLS).read_bytes())
            self._spans = {well: (int(start), int(end)) for well, (start, end) in spans.items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise PlateError(f"{self._folder} is no index of a plate: {error}") from error

    @property
    def wells(self) -> tuple[str, ...]:
        """Wells that have rows, in alphabetical order."""
        return tuple(self._spans)

    def well(self, name: str) -> PlateIndex:
        """Read the rows of a well; none for a well that is not there.

        Raises
        ------
        PlateError
            If they cannot be read.
        """
        return self._rows(*self._spans.get(name, (0, 0)))

    def whole(self) -> PlateIndex:
        """Read all rows, ordered by well.

        Raises
        ------
        PlateError
            If they cannot be read.
        """
        return self._rows(0, max((end for _, end in self._spans.values()), default=0))

    def _rows(self, start: int, end: int) -> PlateIndex:
        columns: dict[str, NDArray[Any]] = {}
        try:
            for name, dtype in COLUMNS.items():
                values = np.array(self._mapped(name)[start:end])
                if dtype == TEXT:
                    values = self._texts(name, values)
                if values.dtype != dtype or values.shape != (end - start,):
                    raise PlateError(f"{self._folder}: the column {name} is damaged")
                values.setflags(write=False)
                columns[name] = values
        except (OSError, EOFError, ValueError, IndexError) as error:
            raise PlateError(f"{self._folder} cannot be read: {error}") from error
        return PlateIndex(self._facts, columns)

    def _texts(self, name: str, numbers: NDArray[Any]) -> NDArray[Any]:
        places, texts = self._mapped(f"{name}.places"), self._mapped(f"{name}.texts")
        distinct, at = np.unique(numbers, return_inverse=True)
        found = np.array([""] * len(distinct), TEXT)
        for place, number in enumerate(distinct.tolist()):
            piece = texts[int(places[number]) : int(places[number + 1])]
            found[place] = piece.tobytes().decode("utf-8", "surrogateescape")
        return found[at]

    def _mapped(self, name: str) -> NDArray[Any]:
        path = self._folder / f"{name}.npy"
        if path.stat().st_size <= _HEADER:  # nothing can be mapped of a file without rows
            empty: NDArray[Any] = np.load(path, allow_pickle=False)
            return empty
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped


_HEADER = 128  # bytes of NumPy's header in front of the rows of one short column


def _save(path: Path, values: NDArray[Any]) -> None:
    np.save(path, values, allow_pickle=False)
