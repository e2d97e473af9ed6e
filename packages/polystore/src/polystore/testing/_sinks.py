"""The suite that whatever takes payloads has to pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import PolystoreError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore._protocols import Backend, DataSink
from polystore.testing._equal import assert_equal, fingerprint
from polystore.testing._samples import samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from polystore.testing._samples import Sample

__all__ = ["SinkTests", "own_arrays"]


class SinkTests(ABC):
    """Subclass it in a test module and say how to make the sink; pytest runs the rest."""

    @abstractmethod
    def make_sink(self) -> DataSink:
        """Make a sink that has taken nothing. Called once in each test."""

    @abstractmethod
    def taken(self, sink: DataSink) -> Sequence[Payload]:
        """Say what a sink has taken, in any order."""

    def saves(self, payload: Payload) -> bool:
        """Say whether the sink can take a payload; override it for one that is choosy."""
        del payload
        return True

    def test_a_sink_says_what_it_does(self) -> None:
        """It has the functions, and a value that says so."""
        sink = self.make_sink()
        assert isinstance(sink, DataSink)
        assert isinstance(sink, Backend)
        assert sink.capabilities.takes

    def test_what_is_saved_arrives_whole(self) -> None:
        """Of every kind and type, and it is not changed on its way."""
        sink = self.make_sink()
        saved = self._saved()
        for sample in saved:
            before = fingerprint(sample.payload)
            sink.save(sample.payload)
            assert fingerprint(sample.payload) == before, f"{sample.what} was changed"
        arrived = {payload.name: payload for payload in self.taken(sink)}
        for sample in saved:
            try:
                assert_equal(arrived[sample.payload.name], sample.payload)
            except (AssertionError, KeyError) as error:
                raise AssertionError(f"{sample.what}: {error!r}") from error

    def test_a_batch_is_what_its_payloads_are(self) -> None:
        """One after the other, as they are made; none is one too."""
        sink = self.make_sink()
        sink.save_batch([])
        assert len(self.taken(sink)) == 0
        batch = self._saved()[:5]
        sink.save_batch(sample.payload for sample in batch)
        assert {one.name for one in self.taken(sink)} == {each.payload.name for each in batch}

    def test_a_batch_that_fails_has_taken_what_came_before(self) -> None:
        """And the error passes through."""
        sink = self.make_sink()
        first = self._saved()[0].payload

        def made() -> Iterator[Payload]:
            yield first
            raise PolystoreError("no more")

        try:
            sink.save_batch(made())
        except PolystoreError as error:
            assert "no more" in str(error)  # noqa: PT017  # pytest is not needed here
        else:
            raise AssertionError("the error was swallowed")
        (one,) = self.taken(sink)
        assert_equal(one, first)

    def test_what_a_copying_sink_took_is_its_own(self) -> None:
        """The caller goes on with its array, unless the sink says that it refers to it."""
        sink = self.make_sink()
        assert isinstance(sink, Backend)
        if not sink.capabilities.copies:
            return
        for payload, mine in own_arrays():
            if self.saves(payload):
                sink.save(payload)
                mine[...] = 1
                (one,) = self.taken(sink)
                assert not one.array.any()
                return

    def _saved(self) -> list[Sample]:
        """Give samples that can be taken, each with a name of its own; the first is an image."""
        named = (
            replace(sample, payload=replace(sample.payload, name=f"sample {number}"))
            for number, sample in enumerate(samples())
        )
        return [sample for sample in named if self.saves(sample.payload)]


def own_arrays() -> Iterator[tuple[Payload, NDArray[Any]]]:
    """Give payloads of zeros, with the array of each, which can be written."""
    pixels = np.zeros((4, 5), np.uint16)
    yield Payload(data=pixels, name="pixels"), pixels
    places = np.zeros((4, 2))
    yield Payload(data=places, kind=Kind.POINTS, name="places"), places
