"""Shows a run in napari while it goes on, without ever holding it up.

A thread of its own reads what is finished from the result's plate and sends it. The run only puts
a note into a queue. What a viewer has not taken in stays on the list: one that comes back gets
what it missed, since everything can be read again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from openhcs._errors import ViewerError
from openhcs.pipeline import Outcome, RunStarted, WellFinished, WellStarted
from openhcs.viewers._launch import napari_service
from openhcs.viewers._run_status import RunWells, WellStatus
from openhcs.viewers._sink import TOPIC, send

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from openhcs.pipeline import Event, WellImage
    from polystore import Payload
    from zmqruntime import Ack, Publisher, Welcome, ZMQClient

__all__ = ["FeedReport", "NapariFeed"]

_START_S: Final = 60.0
_ROOM_S: Final = 2.0
_AGAIN_S: Final = 0.5
_PATIENCE_S: Final = 10.0
_MOST_BYTES: Final = 2 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedReport:
    """What became of the images that were to be shown.

    Attributes
    ----------
    taken_in
        Images and labels that the viewer has.
    missed
        Those that it has not.
    sentence
        The same for people, with what to do.
    """

    taken_in: int
    missed: int
    sentence: str


@dataclass(frozen=True, slots=True)
class _Picture:
    """One plane of the result's plate that is to be shown."""

    key: str
    well: str
    image: WellImage
    labels: str | None
    channel: int
    z: int | None
    t: int | None


class NapariFeed:
    """Sends what a run finishes to a napari service.

    Call it with the run's events; it starts when entered and leaves the viewer open when left.

    Parameters
    ----------
    out
        The run's result folder.
    plate
        Name of the plate, shown beside the wells.
    host, port
        Where the viewer is, or is to be started.
    tell
        Takes sentences for people.
    use_shared_memory
        Whether planes may go through shared memory where the same host is proved.
    most_bytes
        Pixels that the viewer is asked to hold; coarser levels are sent where whole images of all
        wells would be more.
    """

    def __init__(
        self,
        out: Path,
        plate: str,
        *,
        host: str = "localhost",
        port: int = 5555,
        tell: Callable[[str], object],
        use_shared_memory: bool = True,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        from zmqruntime import Endpoint

        self._plate_path = out / "plate.zarr"
        self._plate = plate
        self._endpoint = Endpoint(host, port)
        self._service = napari_service(self._endpoint)
        self._tell = tell
        self._shared = use_shared_memory
        self._most_bytes = most_bytes
        self._thread = threading.Thread(target=self._work, name="napari-feed", daemon=True)
        self._changed = threading.Condition()  # guards what follows
        self._waiting: OrderedDict[str, _Picture] = OrderedDict()
        self._all: dict[str, _Picture] = {}
        self._taken_in: set[str] = set()
        self._refused: dict[str, str] = {}
        self._news: dict[str, WellStatus] = {}
        self._status: dict[str, WellStatus] = {}
        self._run = ""
        self._incarnation = ""
        self._trouble = ""
        self._given_up = False
        self._ending = False
        self._publisher: Publisher | None = None
        self._level: int | None = None

    def __enter__(self) -> NapariFeed:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Take one event of the run; returns at once."""
        match event:
            case RunStarted():
                with self._changed:
                    self._run = event.run_id
                    for well in event.wells:
                        self._note(WellStatus(well=well, state="queued"))
            case WellStarted():
                with self._changed:
                    self._note(WellStatus(well=event.well, state="running"))
            case WellFinished():
                with self._changed:
                    note = event.error or ""
                    self._note(WellStatus(well=event.well, state=str(event.outcome), note=note))
                    if event.outcome is Outcome.OK:
                        for picture in _pictures(event):
                            self._all[picture.key] = picture
                            self._waiting[picture.key] = picture
            case _:
                pass

    def finish(self, timeout: float) -> FeedReport:
        """Wait until the viewer has everything, within bounds, and say how it went.

        Parameters
        ----------
        timeout
            Longest wait, in s. A viewer that could not be had at all is not waited for.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._open_keys() and not self._given_up:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            missed = len(self._all) - len(self._taken_in)
            taken_in, trouble = len(self._taken_in), self._trouble
            refused = next(iter(self._refused.values()), "")
        where = f"napari on {self._endpoint.host}:{self._endpoint.port}"
        if not missed:
            sentence = f"{where} shows {taken_in} images; it stays open"
        else:
            why = refused or trouble or f"it did not answer within {timeout:g} s"
            sentence = (
                f"{where} misses {missed} of {taken_in + missed} images: {why}. "
                f"They are in {self._plate_path}"
            )
        return FeedReport(taken_in=taken_in, missed=missed, sentence=sentence)

    def close(self) -> None:
        """Leave the viewer, which stays open; twice is harmless."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    # What follows runs in the feed's thread, except the callbacks.

    def _work(self) -> None:
        from zmqruntime import Publisher, ZmqRuntimeError

        try:
            self._service.connect_or_raise(_START_S)
            client = self._service.client
            with Publisher(client, TOPIC, use_shared_memory=self._shared) as publisher:
                publisher.on_ack(self._on_ack)
                publisher.on_replay(self._on_replay)
                client.on_welcome(self._on_welcome)
                with self._changed:
                    self._incarnation = client.welcome.server.incarnation
                self._serve(client, publisher)
        except (ViewerError, ZmqRuntimeError) as error:
            with self._changed:
                self._trouble = str(error)
                self._given_up = True
                self._changed.notify_all()
            self._tell(f"The run goes on without napari: {error}")
        finally:
            self._service.close()

    def _serve(self, client: ZMQClient, publisher: Publisher) -> None:
        """Send news and pictures until the feed is closed; a viewer that is gone is waited for."""
        from polystore import PolystoreError
        from zmqruntime import ZmqRuntimeError

        silent_since: float | None = None
        told = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ending or self._waiting or self._news)
                if self._ending:
                    return
                picture = next(iter(self._waiting.values()), None)
            try:
                self._send_news(client)
                if picture is not None:
                    self._send_picture(publisher, picture)
            except ZmqRuntimeError as error:
                now = time.monotonic()
                silent_since = now if silent_since is None else silent_since
                if not told and now - silent_since > _PATIENCE_S:
                    told = True
                    self._tell(f"napari does not take images, the run goes on: {error}")
                with self._changed:
                    self._trouble = str(error)
                    self._changed.wait_for(lambda: self._ending, timeout=_AGAIN_S)
            except (PolystoreError, OSError) as error:
                with self._changed:
                    if picture is not None:
                        self._waiting.pop(picture.key, None)
                        self._refused[picture.key] = str(error)
                        self._changed.notify_all()
            else:
                if told:
                    self._tell("napari takes images again")
                silent_since, told = None, False
                with self._changed:
                    self._trouble = ""

    def _send_news(self, client: ZMQClient) -> None:
        import msgspec

        with self._changed:
            news = tuple(self._news.values())
            run = RunWells(run=self._run, plate=self._plate, wells=news)
        if not news:
            return
        body = {"name": "run.wells", "args": msgspec.to_builtins(run)}
        client.control.request("command", body, timeout=_ROOM_S)
        with self._changed:
            for status in news:
                if self._news.get(status.well) is status:
                    del self._news[status.well]

    def _send_picture(self, publisher: Publisher, picture: _Picture) -> None:
        payload = self._read(picture)
        send(publisher, payload, key=picture.key, timeout=_ROOM_S)
        with self._changed:
            self._waiting.pop(picture.key, None)

    def _read(self, picture: _Picture) -> Payload:
        """Read one plane at the level that lets all wells fit into the viewer's memory."""
        from polystore import Components, Kind, Payload
        from polystore.backends import open_image, open_labels

        image, well = picture.image, picture.well
        if picture.labels is not None:
            reader = open_labels(self._plate_path, well, image.name, picture.labels)
        else:
            reader = open_image(self._plate_path, well, image.name)
        level = min(self._choose_level(reader, image), reader.level_count - 1)
        factor = reader.shapes[0][-1] / reader.shapes[level][-1]
        pixel, windows = reader.pixel_um, reader.windows
        is_image = picture.labels is None
        return Payload(
            data=reader.read(level, c=picture.channel, z=picture.z or 0, t=picture.t or 0),
            components=Components(
                well=well,
                field=image.field,
                channel=picture.channel if is_image else None,
                z=picture.z,
                t=picture.t,
            ),
            kind=Kind.IMAGE if is_image else Kind.LABELS,
            name=picture.labels or image.name,
            pixel_um=None if pixel is None else (pixel[0] * factor, pixel[1] * factor),
            channel_name=image.channels[picture.channel] if is_image else None,
            contrast_limits=windows[picture.channel] if is_image and windows else None,
            run=self._run,
        )

    def _choose_level(self, reader: Any, image: WellImage) -> int:
        """Find the finest level at which all images of the run fit; the same for every well."""
        if self._level is None:
            with self._changed:
                wells = max(len(self._status), 1)
            layers = max(len(image.channels), 1) + len(image.labels)
            for level, shape in enumerate(reader.shapes):
                total = wells * layers * shape[-1] * shape[-2] * 4
                self._level = level
                if total <= self._most_bytes:
                    break
            if self._level:
                self._tell(
                    f"napari is sent every {2**self._level}th pixel, so that {wells} wells fit "
                    f"into its memory; open {self._plate_path} in it for all of them"
                )
        return self._level or 0

    def _note(self, status: WellStatus) -> None:
        """Remember the state of a well and that the viewer has not heard of it; under the lock."""
        self._status[status.well] = status
        self._news[status.well] = status
        self._changed.notify_all()

    def _open_keys(self) -> int:
        return len(self._all) - len(self._taken_in) - len(self._refused)

    # Callbacks, in the client's I/O thread.

    def _on_ack(self, key: str, ack: Ack) -> None:
        with self._changed:
            if str(ack.status) == "failed":
                self._refused[key] = ack.text
            else:
                self._taken_in.add(key)
                self._refused.pop(key, None)
            self._changed.notify_all()

    def _on_replay(self, keys: tuple[str, ...]) -> None:
        with self._changed:
            self._send_again(keys)

    def _on_welcome(self, welcome: Welcome) -> None:
        """Send everything again to a viewer that started anew: it has nothing yet."""
        with self._changed:
            if welcome.server.incarnation == self._incarnation:
                return
            self._incarnation = welcome.server.incarnation
            self._taken_in.clear()
            self._send_again(tuple(self._all))
            for status in self._status.values():
                self._note(status)

    def _send_again(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            if key in self._all and key not in self._taken_in:
                self._waiting[key] = self._all[key]
        self._changed.notify_all()


def _pictures(event: WellFinished) -> list[_Picture]:
    """List the planes of a finished well: of each image every channel, and every label image."""
    pictures: list[_Picture] = []
    for image in event.images:
        sizes = dict(zip(image.axes, image.shape, strict=True))
        times = range(sizes["t"]) if sizes.get("t", 1) > 1 else (None,)
        depths = range(sizes["z"]) if sizes.get("z", 1) > 1 else (None,)
        members: list[tuple[str | None, int]] = [
            (None, channel) for channel in range(len(image.channels))
        ]
        members += [(labels, 0) for labels in image.labels]
        for labels, channel in members:
            what = f"c{channel}" if labels is None else f"labels/{labels}"
            pictures += [
                _Picture(f"{image.path}/{what}/t{t}/z{z}", event.well, image, labels, channel, z, t)
                for t in times
                for z in depths
            ]
    return pictures
