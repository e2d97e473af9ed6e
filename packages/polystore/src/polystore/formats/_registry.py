"""The formats that a store has, by the ends of names."""

from __future__ import annotations

import io
import re
from types import MappingProxyType
from typing import IO, TYPE_CHECKING

from polystore._errors import FormatError, UnknownFormatError
from polystore._kinds import Kind
from polystore.formats._csv import CsvFormat
from polystore.formats._json import JsonFormat
from polystore.formats._npy import NpyFormat
from polystore.formats._ome_tiff import OmeTiffFormat
from polystore.formats._parquet import ParquetFormat
from polystore.formats._png import PngFormat
from polystore.formats._roi_zip import RoiZipFormat
from polystore.formats._text import TextFormat
from polystore.formats._tiff import TiffFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from polystore._payload import Payload
    from polystore.formats._format import Format

__all__ = ["SAVED_AS", "Formats", "standard_formats"]

SAVED_AS = MappingProxyType(
    {
        Kind.IMAGE: ".npy",
        Kind.LABELS: ".npy",
        Kind.POINTS: ".npy",
        Kind.REGIONS: ".json",
        Kind.TABLE: ".json",
        Kind.TEXT: ".json",
    }
)
"""Ends of the names that stores give where nobody says the format, by kind."""

_SUFFIX = re.compile(r"(\.[a-z0-9][a-z0-9_-]*)+")


class Formats:
    """Formats by the ends of names; whoever makes a registry, or extends it, says what it has.

    Parameters
    ----------
    formats
        Those to begin with.

    Raises
    ------
    FormatError
        If two have one suffix, or a suffix cannot be one.

    Examples
    --------
    ::

        formats = standard_formats()
        formats.add(MyFormat())
        store = DiskStore(folder, formats=formats)
    """

    def __init__(self, formats: Iterable[Format] = ()) -> None:
        self._by_suffix: dict[str, Format] = {}
        for each in formats:
            self.add(each)

    def add(self, added: Format) -> None:
        """Add a format under its suffixes.

        Raises
        ------
        FormatError
            If a suffix is taken, or cannot be one, or there is none.
        """
        if not added.suffixes:
            raise FormatError(f"{added.name} has no suffix to be found by")
        for suffix in added.suffixes:
            if not _SUFFIX.fullmatch(suffix):
                raise FormatError(
                    f"{suffix!r} of {added.name} is no suffix: a dot and small letters, as '.tif'"
                )
            if taken := self._by_suffix.get(suffix):
                raise FormatError(
                    f"{suffix} is {taken.name} here already, so it cannot be {added.name}: make a "
                    "registry of the formats you want"
                )
        self._by_suffix.update(dict.fromkeys(added.suffixes, added))

    @property
    def suffixes(self) -> tuple[str, ...]:
        """All suffixes, sorted."""
        return tuple(sorted(self._by_suffix))

    def find(self, name: str) -> Format | None:
        """Return the format of a file of this name, whatever its case, or None."""
        last = name.rsplit("/", 1)[-1].lower()
        dot = last.find(".", 1)
        while dot > 0:
            if found := self._by_suffix.get(last[dot:]):
                return found
            dot = last.find(".", dot + 1)
        return None

    def of(self, name: str) -> Format:
        """Return the format of a file of this name.

        Raises
        ------
        UnknownFormatError
            If the name ends in no suffix that is here; the message lists those that are.
        """
        if found := self.find(name):
            return found
        raise UnknownFormatError(
            f"{name!r} does not say what format it is in: let it end in one of "
            f"{', '.join(self.suffixes) or 'none, for this registry is empty'}"
        )

    def check(self, name: str, payload: Payload) -> Format:
        """Return the format of a file of this name, which can hold this payload.

        Raises
        ------
        UnknownFormatError
            If the name ends in no suffix that is here.
        FormatError
            If the format cannot hold the payload; the message says which formats here could.
        """
        found = self.of(name)
        reason = found.refusal(payload)
        if reason is None:
            return found
        able = [each for each in self if each.refusal(payload) is None]
        could = ", ".join(f"{each.name} ({each.suffixes[0]})" for each in able)
        raise FormatError(
            f"{name!r} cannot be written as {found.name}: {reason}; "
            + (f"what could hold it here: {could}" if able else "no format here could hold it")
        )

    def write(self, name: str, payload: Payload, stream: IO[bytes]) -> None:
        """Write a payload in the format that the name says.

        Parameters
        ----------
        name
            Of the file.
        payload
            What to write.
        stream
            Empty, at its start; it can be written and sought.

        Raises
        ------
        UnknownFormatError
            If the name ends in no suffix that is here.
        FormatError
            If the format cannot hold the payload; nothing was written.
        MissingExtraError
            If the library that does the work is not installed.
        """
        self.check(name, payload).write(payload, stream)

    def read(self, name: str, stream: IO[bytes], where: str | None = None) -> Payload:
        """Read a file in the format that its name says.

        Parameters
        ----------
        name
            Of the file.
        stream
            At the start of the file; it can be read and sought.
        where
            What messages call the file, where that is not `name`.

        Raises
        ------
        UnknownFormatError
            If the name ends in no suffix that is here.
        UnreadableError
            If it is no such file, is cut off or damaged, or holds no payload.
        MissingExtraError
            If the library that does the work is not installed.
        """
        return self.of(name).read(stream, where or name)

    def to_bytes(self, name: str, payload: Payload) -> bytes:
        """Make the bytes of a file, as `write` would write it.

        Raises
        ------
        UnknownFormatError, FormatError, MissingExtraError
            As `write`.
        """
        stream = io.BytesIO()
        self.write(name, payload, stream)
        return stream.getvalue()

    def from_bytes(
        self, name: str, content: bytes | bytearray | memoryview, where: str | None = None
    ) -> Payload:
        """Read the bytes of a file, as `read` would read it.

        Raises
        ------
        UnknownFormatError, UnreadableError, MissingExtraError
            As `read`.
        """
        return self.read(name, io.BytesIO(content), where)

    def __iter__(self) -> Iterator[Format]:
        """Give each format once, in the order in which they were added."""
        return iter(dict.fromkeys(self._by_suffix.values()))

    def __len__(self) -> int:
        return len(dict.fromkeys(self._by_suffix.values()))


def standard_formats() -> Formats:
    """Make a registry of all formats that there are here; a new one at each call.

    Nothing heavy is loaded before the first file is written or read.
    """
    return Formats(
        (
            NpyFormat(),
            TiffFormat(),
            OmeTiffFormat(),
            PngFormat(),
            CsvFormat(),
            ParquetFormat(),
            RoiZipFormat(),
            JsonFormat(),
            TextFormat(),
        )
    )
