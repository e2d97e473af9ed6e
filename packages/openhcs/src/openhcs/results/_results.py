"""A result folder: how its wells ended, its tables as Arrow, its images as lazy arrays."""

from __future__ import annotations

import difflib
from functools import cached_property
from typing import TYPE_CHECKING, Any

from openhcs._columns import put_together
from openhcs._errors import ResultFolderError
from openhcs.execution import ResultFolder, RunRecord, load_run
from openhcs.functions import measure_image_quality
from openhcs.pipeline import COVERAGE, Outcome
from openhcs.plates import parse_wells, sort_wells
from openhcs.results._fields import sum_up_fields
from openhcs.results._image import LazyImage
from openhcs.results._outliers import outlier_table
from polystore.omezarr import ImageReader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import pyarrow as pa

__all__ = ["Results", "open_results"]


def open_results(folder: str | Path) -> Results:
    """Open the results of a run.

    Parameters
    ----------
    folder
        The result folder, of a run that came to its end.

    Raises
    ------
    ResultFolderError
        If it holds no results.
    """
    return Results(folder)


class Results:
    """What a run gave. Everything is read when it is asked for.

    After another run in the same folder, open it again: this still says how the earlier one ended.

    Parameters
    ----------
    folder
        The result folder.

    Raises
    ------
    ResultFolderError
        If it holds no results.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = ResultFolder(folder)
        document = self._folder.read_run()
        if document is None:
            message = f"{self._folder.run} is no record of a run: name a folder of results"
            raise ResultFolderError(message)
        try:
            # A run that never came to its end is on record as one that goes on.
            ended = document["outcome"] != "running"
            self._outcome = Outcome(document["outcome"]) if ended else Outcome.LOST
            self._outcomes = {
                well: Outcome(each["outcome"]) for well, each in document["wells"].items()
            }
        except (KeyError, TypeError, ValueError) as error:
            message = f"{self._folder.run} is not a record that this version can read: {error!r}"
            raise ResultFolderError(message) from error

    @property
    def folder(self) -> Path:
        """The result folder."""
        return self._folder.root

    @cached_property
    def record(self) -> RunRecord:
        """What was run on what: enough to repeat it.

        Raises
        ------
        SourceError
            If its pipeline names functions that cannot be had here.
        """
        return load_run(self.folder)

    @property
    def report(self) -> Path:
        """The report, one page of HTML."""
        return self.folder / "report.html"

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """How each well ended, by well."""
        return self._outcomes

    @property
    def completed(self) -> bool:
        """Whether the run came to its end and every well that was asked for is ok."""
        return self._outcome == Outcome.OK

    @cached_property
    def errors(self) -> Mapping[str, str]:
        """What went wrong, by well, where something did."""
        rows = self.wells.select(["well", "error"]).to_pylist()
        return {row["well"]: row["error"] for row in rows if row["error"]}

    @cached_property
    def wells(self) -> pa.Table:
        """One row per well: outcome, counts, and what its objects and images come to."""
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self._folder.wells)
        except FileNotFoundError as error:
            message = f"{self.folder} has no table of wells: its run never came to its end"
            raise ResultFolderError(message) from error

    @cached_property
    def scores(self) -> pa.Table:
        """One row per well and measure: robust z, percent of control and B-score.

        Raises
        ------
        ResultFolderError
            If no report was written since the run.
        """
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self.folder / "scores.parquet")
        except FileNotFoundError as error:
            message = (
                f"{self.folder} has no table of scores: openhcs report {self.folder} writes it"
            )
            raise ResultFolderError(message) from error

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables that the steps gave, such as ``objects``."""
        names = {
            output
            for step in (self._folder.read_run() or {}).get("steps", [])
            for output, kind in step["outputs"].items()
            if kind in ("table", "record")
        }
        return tuple(sorted(name for name in names if (self.folder / name).is_dir()))

    def table(
        self,
        name: str,
        *,
        wells: str | Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
    ) -> pa.Table:
        """Read a table of all wells, or of some.

        Parameters
        ----------
        name
            One of `tables`.
        wells
            Names of wells, or a selection such as ``"A01,B*"``; all by default.
        columns
            The columns to read; all by default.

        Returns
        -------
        pyarrow.Table
            Rows of wells that are ok, in plate order; the column ``well`` says whose. A column
            that some wells lack is null there.

        Raises
        ------
        KeyError
            If there is no such table, or none of the wells has a column that is asked for.
        ValueError
            If a selection names no well of the results.
        TypeError
            If `columns` is a text in place of several.
        """
        import pyarrow.parquet as pq

        if name not in self.tables:
            message = f"there is no table {name!r}; there are {', '.join(self.tables) or 'none'}"
            raise KeyError(message)
        wanted = _listed(columns)
        parts = []
        known: dict[str, None] = {}
        for well in self._chosen(wells):
            path = self._folder.table(name, well)
            if path.is_file():
                # A file by itself: a folder's name with "=" in it would be read as a column.
                file = pq.ParquetFile(path)
                present = file.schema_arrow.names
                known.update(dict.fromkeys(present))
                parts.append(file.read(columns=_both(wanted, present)))
        _check_columns(name, wanted, known)
        return put_together(parts)

    def frame(
        self,
        name: str = "wells",
        *,
        wells: str | Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
    ) -> pd.DataFrame:
        """Read a table as a pandas data frame.

        Parameters
        ----------
        name
            ``wells``, or one of `tables`.
        wells, columns
            As in `table`.

        Raises
        ------
        KeyError, ValueError, TypeError
            As `table`.
        ImportError
            If pandas is not installed.
        """
        if name != "wells":
            return self.table(name, wells=wells, columns=columns).to_pandas()
        wanted = _listed(columns)
        _check_columns(name, wanted, self.wells.column_names)
        table = self.wells if wanted is None else self.wells.select(wanted)
        if wells is not None:
            chosen = set(self._chosen(wells))
            table = table.filter([well.as_py() in chosen for well in self.wells["well"]])
        return table.to_pandas()

    def fields(
        self, name: str = "objects", *, wells: str | Iterable[str] | None = None
    ) -> pa.Table:
        """Sum up a table of objects field by field, to look at before wells are believed.

        Parameters
        ----------
        name
            One of `tables` with one row per object.
        wells
            As in `table`.

        Returns
        -------
        pyarrow.Table
            One row for each field in which objects were looked for: ``well``, ``field``, ``count``,
            and mean, median and MAD of every feature, as in `wells`. Without objects, count is 0
            and the others are NaN. Objects of a stitched image belong to no field: those of a well
            are one row, whose field is null. ``excluded`` says which fields a rule of the pipeline
            leaves out of `wells`, where there is one. Where an earlier version did not put on
            record in which fields it looked, those without objects lack a row.

        Raises
        ------
        KeyError
            If there is no such table.
        ValueError
            If it has no row per object, or a selection names no well of the results.
        """
        import pyarrow as pa

        parts = []
        for well in self._chosen(wells):
            objects = self.table(name, wells=[well])
            if "ObjectNumber" not in objects.column_names:
                if not objects.column_names:
                    continue
                message = f"table {name!r} has no row per object: it has no column ObjectNumber"
                raise ValueError(message)
            record = self._folder.read_record(well) or {}
            measured = record.get("fields", {}).get(name, ())
            excluded = record.get("excluded", {}).get(name)
            parts.append(sum_up_fields(objects, well, measured, excluded))
        return pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})

    def outliers(self, *, wells: str | Iterable[str] | None = None, limit: float = 5.0) -> pa.Table:
        """Name the planes whose image quality is far from that of their like.

        Parameters
        ----------
        wells
            As in `table`; planes are compared with those of these wells.
        limit
            Smallest robust z that is named; greater than 0.

        Returns
        -------
        pyarrow.Table
            ``table``, ``well``, ``t``, ``field``, ``channel`` and ``z`` of the plane, null where
            its table has no such column; ``feature``, its ``value``, the ``median`` of planes of
            the same channel and z, in the feature's units, and ``robust_z`` with its sign; farthest
            first. No rows where image quality was not measured. See `flag_outliers`.

        Raises
        ------
        ValueError
            If ``limit`` is not greater than 0, or a selection names no well of the results.
        """
        names = [
            output
            for step in (self._folder.read_run() or {}).get("steps", [])
            if step["function"] == measure_image_quality.__name__
            for output in step["outputs"]
        ]
        tables = {name: self.table(name, wells=wells) for name in names if name in self.tables}
        return outlier_table(tables, limit)

    def images(self, well: str) -> tuple[str, ...]:
        """Name the images of a well: one, or one for each field.

        Raises
        ------
        KeyError
            If the results have no such well, or it has failed.
        """
        return tuple(self._images(well))

    def image(self, well: str, name: str | None = None) -> LazyImage:
        """Open an image.

        Parameters
        ----------
        well
            Name of the well.
        name
            One of `images`; the last one by default, which is what the pipeline ended with.

        Raises
        ------
        KeyError
            If there is no such well or image.
        """
        return LazyImage(self._reader(well, name))

    def label_names(self, well: str, image: str | None = None) -> tuple[str, ...]:
        """Name the label images that lie beside an image; beside any of the well's by default.

        What `coverage` gives is none of them.

        Raises
        ------
        KeyError
            If there is no such well or image.
        """
        if image is None and not self._images(well):
            return ()
        readers = self._readers(well, image)
        names = dict.fromkeys(name for reader in readers for name in reader.label_names)
        return tuple(name for name in names if name != COVERAGE)

    def labels(self, well: str, name: str, image: str | None = None) -> LazyImage:
        """Open a label image.

        Parameters
        ----------
        well
            Name of the well.
        name
            One of `label_names`.
        image
            The image that it lies beside; the last one that has it by default.

        Raises
        ------
        KeyError
            If there is no such well, image, or label image.
        """
        for reader in self._readers(well, image):
            if name in reader.label_names:
                return LazyImage(reader.labels(name))
        there = ", ".join(self.label_names(well, image)) or "none"
        message = f"well {well} has no labels {name!r}; there are {there}"
        raise KeyError(message)

    def coverage(self, well: str, image: str | None = None) -> LazyImage:
        """Open the mask that says where a stitched image shows something.

        Parameters
        ----------
        well
            Name of the well.
        image
            The image that it lies beside; the last one of the well's that has one by default.

        Returns
        -------
        LazyImage
            Axes t, z, y, x: 1 where a tile of any channel lies, 0 on empty canvas, where pixels are
            0 and mean nothing.

        Raises
        ------
        KeyError
            If there is no such well or image, or the image was not stitched, or was so by an older
            version.
        """
        for reader in self._readers(well, image):
            if COVERAGE in reader.label_names:
                return LazyImage(reader.labels(COVERAGE))
        message = (
            f"well {well} has no mask of what tiles cover: its images were not stitched, or by an "
            "older version"
        )
        raise KeyError(message)

    def __repr__(self) -> str:
        ok = sum(outcome is Outcome.OK for outcome in self.outcomes.values())
        return f"<Results {self.folder}: {ok} of {len(self.outcomes)} wells ok>"

    def _chosen(self, wells: str | Iterable[str] | None) -> tuple[str, ...]:
        there = sort_wells(w for w, outcome in self.outcomes.items() if outcome is Outcome.OK)
        if wells is None:
            return there
        if isinstance(wells, str):
            return parse_wells(wells, there)
        named = list(wells)
        unknown = [well for well in named if well not in there]
        if unknown:
            message = f"there are no results of {', '.join(map(str, unknown))}"
            raise ValueError(message)
        return sort_wells(named)

    def _images(self, well: str) -> Mapping[str, Path]:
        record: Mapping[str, Any] | None = self._folder.read_record(well)
        if record is None or self.outcomes.get(well) is not Outcome.OK:
            outcome = self.outcomes.get(well)
            how = f"it is {outcome}" if outcome is not None else "it was not in the run"
            message = f"there are no results of well {well}: {how}"
            raise KeyError(message)
        return {image["name"]: self._folder.plate / image["path"] for image in record["images"]}

    def _reader(self, well: str, name: str | None) -> ImageReader:
        images = self._images(well)
        if not images:
            message = f"well {well} has no images: the pipeline stores none"
            raise KeyError(message)
        chosen = list(images)[-1] if name is None else name
        if chosen not in images:
            message = f"well {well} has no image {chosen!r}; there are {', '.join(images)}"
            raise KeyError(message)
        return ImageReader(images[chosen])

    def _readers(self, well: str, image: str | None) -> Iterator[ImageReader]:
        """Open one image, or all of a well from the last to the first."""
        # A step that acts in some wells alone ends those with an image that has no labels.
        names = (None,) if not self._images(well) else tuple(reversed(self.images(well)))
        for name in names if image is None else (image,):
            yield self._reader(well, name)


def _listed(columns: Iterable[str] | None) -> list[str] | None:
    if isinstance(columns, str):
        raise TypeError(f"columns is the text {columns!r}; give several, such as [{columns!r}]")
    return None if columns is None else list(columns)


def _check_columns(table: str, wanted: Sequence[str] | None, known: Iterable[str]) -> None:
    there = list(known)
    unknown = [column for column in wanted or () if there and column not in there]
    if unknown:
        close = difflib.get_close_matches(unknown[0], there, n=1)
        advice = f"; did you mean {close[0]!r}?" if close else ""
        message = f"table {table!r} has no column {', '.join(map(repr, unknown))}{advice}"
        raise KeyError(message)


def _both(wanted: Sequence[str] | None, present: Sequence[str]) -> list[str] | None:
    return None if wanted is None else [column for column in wanted if column in present]
