"""Doubles for tests of live views: a viewer without a window, and a run without work."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec
import numpy as np

from openhcs._typed import from_plain
from openhcs.pipeline import Outcome, RunStarted, WellFinished, WellImage
from openhcs.viewers import Receiver, RunWells
from polystore.omezarr import (
    ChannelMeta,
    ImageMeta,
    ImageWriter,
    PlateLayout,
    create_plate,
    write_labels,
)
from zmqruntime import Endpoint, InvalidRequestError, Subscriber, ZMQServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from polystore.projection import LayerKey, LayerUpdate, Placement
    from zmqruntime import Peer, Request
    from zmqruntime.security import KeyFolder

__all__ = ["RecordingViewer", "ShownRun"]


class RecordingViewer:
    """Answers as the napari service does, over real sockets, and keeps copies of all planes.

    Parameters
    ----------
    port
        Control port; data come in on the port 1000 above.
    keys
        Serve only whoever has an authorised key.

    Attributes
    ----------
    planes
        Copies of what was shown, by layer name and the values on the layer's axes that it has.
    states
        State of each well by run and well.
    """

    def __init__(self, port: int, *, keys: KeyFolder | None = None) -> None:
        self.port = port
        self.planes: dict[tuple[str, tuple[object, ...]], NDArray[Any]] = {}
        self.states: dict[tuple[str, str], str] = {}
        self._names: dict[LayerKey, str] = {}
        self._changed = threading.Condition()  # guards planes and states
        self._server = ZMQServer(
            "napari", Endpoint("localhost", port), bind_address="127.0.0.1", keys=keys
        )
        self._thread = threading.Thread(target=self._work, name="recording-viewer")

    def __enter__(self) -> Self:
        self._server.start()
        self._server.control.handle("command", self._on_command)
        self._subscriber = Subscriber(self._server)
        self.receiver = Receiver(self._subscriber)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._subscriber.close()
        self._thread.join()
        self.receiver.close()
        self._server.stop()

    def wait_for(self, condition: Callable[[RecordingViewer], bool], timeout: float = 30.0) -> bool:
        """Wait until a condition of this viewer holds; False when it does not in time."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take nothing in meanwhile, as a viewer does that hangs; its process answers."""
        with self._changed:  # which the thread that takes in needs for every plane
            yield

    @property
    def counters(self) -> dict[str, int]:
        """Totals of the subscriber; ``bytes_copied`` tells how planes came."""
        return self._subscriber.counters

    def _work(self) -> None:
        while True:
            due = self.receiver.due_in()
            there = self._subscriber.wait(due)
            if not there and due is None:
                return  # closed
            self.receiver.drain(0.01)
            due = self.receiver.due_in()
            if due is not None and due <= 0:
                for item in self.receiver.carry_out(self._record):
                    item.ack("displayed")

    def _record(self, update: LayerUpdate) -> tuple[Placement, ...]:
        with self._changed:
            before = self._names.get(update.key, update.name)
            if before != update.name:  # because another layer came that would have the same
                for name, place in [each for each in self.planes if each[0] == before]:
                    self.planes[update.name, place] = self.planes.pop((name, place))
            self._names[update.key] = update.name
            for placement in update.placements:
                place = tuple(
                    axis.values[at]
                    for axis, at in zip(update.axes, placement.index, strict=True)
                    if axis.values
                )
                self.planes[update.name, place] = placement.payload.array.copy()
            self._changed.notify_all()
        return update.placements

    def _on_command(self, request: Request, _peer: Peer) -> dict[str, Any]:
        try:
            run = from_plain(request.body.get("args"), RunWells)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(str(error)) from error
        with self._changed:
            for well in run.wells:
                self.states[run.run, well.well] = well.state
            self._changed.notify_all()
        return {}


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A result folder that fills up as its wells are finished, without a run.

    Attributes
    ----------
    out
        The folder.
    wells
        Wells of the run.
    shape
        (y, x) of their images.
    """

    out: Path
    wells: tuple[str, ...] = ("A01", "A02", "B03")
    shape: tuple[int, int] = (300, 260)

    def plane(self, well: str, channel: int) -> NDArray[np.uint16]:
        """Give the pixels of a channel, shape (y, x); the same each time."""
        seed = [self.wells.index(well), channel]
        return np.random.default_rng(seed).integers(0, 4000, self.shape).astype(np.uint16)

    def started(self) -> RunStarted:
        """Give the event of the run's start."""
        return RunStarted(
            run_id="run", out=self.out, wells=self.wells, done=(), steps=("stitch",), workers=1
        )

    def finished(self, well: str) -> WellFinished:
        """Write a well's results as a run does, and give the event of its end."""
        plate = self.out / "plate.zarr"
        if not plate.exists():
            layout = PlateLayout.regular(
                "p", rows=8, columns=12, wells=self.wells, images=["stitched"]
            )
            self.out.mkdir(parents=True, exist_ok=True)
            create_plate(plate, layout)
        meta = ImageMeta(channels=(ChannelMeta("DAPI"), ChannelMeta("GFP")), pixel_um=(0.65, 0.65))
        with ImageWriter(plate, well, "stitched", (2, *self.shape), np.uint16, meta) as image:
            for channel in range(2):
                image.write_plane(self.plane(well, channel), c=channel)
            image.commit()
        nuclei = (self.plane(well, 0) > 2000).astype(np.int32)
        write_labels(plate, well, "stitched", "nuclei", nuclei)
        return WellFinished(
            well=well,
            outcome=Outcome.OK,
            seconds=1.0,
            reused=False,
            images=(
                WellImage(
                    name="stitched",
                    path=f"{well[0]}/{int(well[1:])}/stitched",
                    field=None,
                    axes=("t", "channel", "z", "y", "x"),
                    shape=(1, 2, 1, *self.shape),
                    dtype="uint16",
                    channels=("DAPI", "GFP"),
                    labels=("nuclei",),
                    pixel_um=(0.65, 0.65),
                ),
            ),
        )
