"""The suite that a file format has to pass."""

from __future__ import annotations

import io
import random
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from polystore._errors import FormatError, UnreadableError
from polystore.formats import Format, Formats
from polystore.testing._equal import assert_equal, assert_same_data
from polystore.testing._samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterator

    from polystore._payload import Payload
    from polystore.testing._samples import Sample

__all__ = ["FormatTests"]


class FormatTests(ABC):
    """Subclass it in a test module and say how to make the format; pytest runs the rest.

    Attributes
    ----------
    damaged_files
        So many damaged files are read.
    notices_cuts
        False for a format, as text, of which every beginning is a file again.
    """

    damaged_files = 300
    notices_cuts = True

    @abstractmethod
    def make(self) -> Format:
        """Make a format. Called once in each test."""

    def holds(self, payload: Payload) -> bool:
        """Say whether the format can hold a payload; override it for one that is choosy."""
        return payload.kind in self.make().kinds

    def held(self) -> Iterator[Sample]:
        """Give the samples that the format holds."""
        return (sample for sample in samples() if self.holds(sample.payload))

    def test_it_can_be_registered(self) -> None:
        """Its suffixes are suffixes, whatever the case of a name."""
        made = self.make()
        formats = Formats([made])
        for suffix in made.suffixes:
            assert formats.of(f"a/b{suffix}") is made
            assert formats.of(f"B{suffix.upper()}") is made
            assert formats.find(suffix) is None
        assert made.name
        assert made.package
        assert made.kinds

    def test_what_it_holds_comes_back_whole(self) -> None:
        """Data to the last bit, and whatever else the payload says."""
        made = self.make()
        found = 0
        for sample in self.held():
            assert made.refusal(sample.payload) is None, f"{sample.what} is refused"
            content = _written(made, sample.payload)
            try:
                assert_equal(made.read(io.BytesIO(content), "file"), sample.payload)
            except (AssertionError, UnreadableError) as error:
                raise AssertionError(f"{sample.what}: {error}") from error
            found += 1
        assert found, "no sample is held: override holds()"

    def test_what_it_cannot_hold_is_refused_with_a_reason(self) -> None:
        """Before anything is written; the registry says so with the name."""
        made = self.make()
        formats = Formats([made])
        for sample in samples():
            if self.holds(sample.payload):
                continue
            assert made.refusal(sample.payload), f"{sample.what} is not refused"
            stream = io.BytesIO()
            try:
                formats.write(f"plate/x{made.suffixes[0]}", sample.payload, stream)
            except FormatError as error:
                assert "plate/x" in str(error)  # noqa: PT017  # pytest is not needed here
            else:
                raise AssertionError(f"{sample.what} was written")
            assert stream.getvalue() == b""

    def test_what_is_read_is_read_only(self) -> None:
        """Nobody takes it for memory of his own."""
        made = self.make()
        for sample in self.held():
            payload = made.read(io.BytesIO(_written(made, sample.payload)), "file")
            if isinstance(payload.data, np.ndarray):
                assert not payload.data.flags.writeable

    def test_the_same_payload_makes_the_same_file(self) -> None:
        """So that files can be compared, and kept once."""
        made = self.make()
        for sample in self.held():
            assert _written(made, sample.payload) == _written(made, sample.payload), sample.what

    def test_what_is_no_such_file_is_an_error_that_names_it(self) -> None:
        """An empty one, and one of something else."""
        made = self.make()
        if not self.notices_cuts:
            return
        for content in (b"", b"\x00" * 100, b"II*\x00", b"\x89PNG\r\n\x1a\n", b"PAR1PAR1"):
            try:
                made.read(io.BytesIO(content), "plate/some file")
            except UnreadableError as error:
                assert "plate/some file" in str(error)  # noqa: PT017
            else:
                raise AssertionError(f"{content!r} was read")

    def test_a_file_that_is_cut_off_is_an_error(self) -> None:
        """Wherever it is cut, unless all data are there."""
        if not self.notices_cuts:
            return
        made = self.make()
        for sample in self._small():
            content = _written(made, sample.payload)
            step = max(1, len(content) // 40)
            for length in (*range(0, len(content), step), len(content) - 1):
                try:
                    payload = made.read(io.BytesIO(content[:length]), "file")
                except UnreadableError as error:
                    assert "file" in str(error)  # noqa: PT017
                else:
                    assert_same_data(payload, sample.payload)

    def test_a_damaged_file_is_an_error_or_another_payload(self) -> None:
        """And nothing else is ever raised."""
        made = self.make()
        contents = [_written(made, sample.payload) for sample in self._small()]
        chance = random.Random(0)
        for _ in range(self.damaged_files):
            content = bytearray(chance.choice(contents))
            for _ in range(chance.randint(1, 4)):
                content[chance.randrange(len(content))] = chance.randrange(256)
            try:
                made.read(io.BytesIO(content), "file")
            except UnreadableError:
                continue

    def _small(self) -> list[Sample]:
        chosen = [sample for sample in self.held() if 0 < sample.payload.nbytes < 4000]
        return chosen[:: max(1, len(chosen) // 6)]


def _written(made: Format, payload: Payload) -> bytes:
    stream = io.BytesIO()
    made.write(payload, stream)
    return stream.getvalue()
