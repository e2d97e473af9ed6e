"""Rows of a plate put together: what a reader says of images, numbered, joined and checked.

For formats in which every image is one file. The reader says of each image what it is and which
file should hold it; whether that file is there, sound and the only one is found out here, alike for
all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.plates._findings import some
from openhcs.plates._listed import ListedImages
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._rows import dense

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import ScannedFile

__all__ = ["ABSENT", "Assembly"]

ABSENT = -1
"""In place of a number that an image does not have; it counts from 0 all the same."""


class Assembly(ListedImages):
    """Takes rows with the vendor's numbers and makes them those of a plate.

    Parameters
    ----------
    root
        The plate's folder.
    files
        Those that may be images.
    findings
        Takes what is odd.
    deep
        Whether to open the header of every image.
    """

    def __init__(
        self, root: Path, files: Sequence[ScannedFile], findings: FindingLog, *, deep: bool
    ) -> None:
        super().__init__(root, files, findings, deep=deep)
        self._log = findings
        self._unsupported: list[Row] = []
        self._said: list[tuple[str, str, Row, str]] = []  # named once all is numbered
        self.rows: list[Row] = []
        """One per image; numbered and described once `finish` was called."""

    def add(self, row: Row, reference: str, *, folder: str = "", unsupported: bool = False) -> None:
        """Take the row of an image and join it with its file.

        Parameters
        ----------
        row
            Its numbers are the vendor's, or `ABSENT`; they are made dense later.
        reference
            The file as metadata or the scan name it; either separator.
        folder
            Where the reference starts, relative to the plate.
        unsupported
            Whether the file is of an encoding that cannot be read.
        """
        self.rows.append(row)
        self.join(row, folder, reference)
        if unsupported and row.status == PlaneStatus.OK:
            row.status = PlaneStatus.UNREADABLE.value
            self._unsupported.append(row)

    def say(self, code: str, what: str, row: Row, path: str = "") -> None:
        """Note something odd about an image; it becomes a finding once rows are numbered.

        Parameters
        ----------
        code
            One of `openhcs.plates.CODES`.
        what
            What follows the path in a sentence.
        row
            The image.
        path
            Named in place of the row's own path.
        """
        self._said.append((code, what, row, path))

    def finish(self, name_of: Callable[[int], str], *, complete: bool) -> tuple[str, ...]:
        """Make numbers dense, open headers and check all rows that were added.

        Parameters
        ----------
        name_of
            Gives the name of a channel by the vendor's number.
        complete
            Whether nothing lists the images, so that each well is expected to have what any has.

        Returns
        -------
        tuple
            One name per channel.
        """
        names = self._number(name_of)
        for code, what, row, path in self._said:
            self._log.add_for(row, code, f"{path or row.path} {what}", path=path)
        self._report_unsupported()
        self.check(self.rows, names, complete=complete)
        return names

    def _number(self, name_of: Callable[[int], str]) -> tuple[str, ...]:
        for name in ("field", "z", "t"):
            ranks = dense(n for row in self.rows if (n := getattr(row, name)) != ABSENT)
            for row in self.rows:
                number = getattr(row, name)
                identity = f"{name}_id"
                if number != ABSENT and not getattr(row, identity):
                    setattr(row, identity, str(number))
                setattr(row, name, ranks.get(number, 0))
        channels = dense(row.channel for row in self.rows)
        names: list[str] = []
        for number in channels:
            name = name_of(number)
            names.append(name if name not in names else f"{name} ({number})")
        start: dict[int, float] = {}
        for row in self.rows:
            if row.time_s == row.time_s:
                start[row.acquisition] = min(row.time_s, start.get(row.acquisition, row.time_s))
        for row in self.rows:
            row.channel_id = row.channel_id or str(row.channel)
            row.channel = channels[row.channel]
            row.channel_name = names[row.channel]
            row.time_s -= start.get(row.acquisition, 0.0)
        return tuple(names)

    def _report_unsupported(self) -> None:
        if not self._unsupported:
            return
        first = self._unsupported[0]
        alone = first if len(self._unsupported) == 1 else None
        self._log.add(
            "UNSUPPORTED_ENCODING",
            f"{len(self._unsupported)} images are of an encoding that cannot be read: "
            f"{some(row.path for row in self._unsupported)}.",
            well=alone.well if alone else None,
            field=alone.field if alone else None,
            channel=alone.channel if alone else None,
            z=alone.z if alone else None,
            t=alone.t if alone else None,
            path=first.path,
        )
