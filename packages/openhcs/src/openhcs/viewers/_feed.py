"""Shows a run in napari while it goes on, without ever holding it up.

A thread of its own reads what is finished from the result's plate and sends it. The run only puts
a note into a queue. What a viewer has not taken in stays on the list: one that comes back gets
what it missed, since everything can be read again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from openhcs._errors import ViewerError
from openhcs.pipeline import Outcome, RunStarted, WellFinished, WellStarted
from openhcs.viewers._launch import napari_service
from openhcs.viewers._pictures import Picture, PictureReader, level_for, pictures_of
from openhcs.viewers._run_status import RunWells, WellStatus
from openhcs.viewers._sink import TOPIC, send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from openhcs.pipeline import Event
    from polystore import Payload
    from zmqruntime import Ack, Publisher, Welcome, ZMQClient
    from zmqruntime.security import KeyFolder

__all__ = ["FeedReport", "NapariFeed"]

logger = logging.getLogger(__name__)

_START_S: Final = 60.0
_ROOM_S: Final = 2.0
_AGAIN_S: Final = 0.5
_STALLED_S: Final = 10.0
_LEAVE_S: Final = 5.0
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


class NapariFeed:
    """Sends what a run finishes to a napari service.

    Call it with the run's events; it starts when entered and leaves the viewer open when left.

    Parameters
    ----------
    out
        The run's result folder.
    plate
        Name of the plate, shown beside the wells.
    source
        The plate's folder. It tells the plate from others of the same name: a run of another plate
        is shown in layers of its own, a further run of the same plate in the same ones.
    host, port
        Where the viewer is, or is to be started.
    keys
        Keys to show to a viewer that asks for them, and those of the viewers that are known.
    launch
        Whether a viewer that does not run is started, where that is on this computer.
    tell
        Takes sentences for people.
    use_shared_memory
        Whether planes may go through shared memory where the same host is proved.
    most_bytes
        What the viewer is asked to hold in its layers; coarser images are sent where whole ones of
        all wells would be more.
    stalled_s
        A viewer that took nothing for so long is not waited for at the end.
    """

    def __init__(
        self,
        out: Path,
        plate: str,
        *,
        source: Path | None = None,
        host: str = "localhost",
        port: int = 5555,
        keys: KeyFolder | None = None,
        launch: bool = True,
        tell: Callable[[str], object],
        use_shared_memory: bool = True,
        most_bytes: int = _MOST_BYTES,
        stalled_s: float = _STALLED_S,
    ) -> None:
        from zmqruntime import Endpoint

        self._plate = plate if source is None else _told_apart(plate, source)
        self._title = plate
        self._reader = PictureReader(out / "plate.zarr", self._plate)
        self._endpoint = Endpoint(host, port)
        self._service = napari_service(self._endpoint, keys=keys, launch=launch)
        self._tell = tell
        self._shared = use_shared_memory
        self._most_bytes = most_bytes
        self._thread = threading.Thread(target=self._work, name="napari-feed", daemon=True)
        self._stalled_s = stalled_s
        self._changed = threading.Condition()  # guards what follows
        self._waiting: OrderedDict[str, Picture] = OrderedDict()
        self._all: dict[str, Picture] = {}
        self._taken_in: set[str] = set()
        self._refused: dict[str, str] = {}
        self._news: dict[str, WellStatus] = {}
        self._status: dict[str, WellStatus] = {}
        self._run = ""
        self._incarnation = ""
        self._trouble = ""
        self._connected = False
        self._given_up = False
        self._ending = False
        self._moved = time.monotonic()  # when the viewer last took something, or had all
        self._level: int | None = None
        self._read: tuple[Picture, Payload] | None = None  # the feed's thread alone

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
                        self._add(event)
            case _:
                pass

    def finish(self, timeout: float) -> FeedReport:
        """Wait until the viewer has everything, within bounds, and say how it went.

        Parameters
        ----------
        timeout
            Longest wait, in s. A viewer that could not be had at all is not waited for, nor is one
            that took nothing for `stalled_s`.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while self._open() and not self._given_up:
                until = deadline
                if self._connected:  # before, it is still being started
                    until = min(deadline, self._moved + self._stalled_s)
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            taken_in, missed = len(self._taken_in), len(self._all) - len(self._taken_in)
            why = next(iter(self._refused.values()), "") or self._trouble
        where = f"napari on {self._endpoint.host}:{self._endpoint.port}"
        if not missed:
            sentence = f"{where} shows {taken_in} images; it stays open"
        else:
            sentence = (
                f"{where} misses {missed} of {taken_in + missed} images: "
                f"{why or 'it did not take them in time'}. They are in {self._reader.path}"
            )
        return FeedReport(taken_in=taken_in, missed=missed, sentence=sentence)

    def close(self) -> None:
        """Leave the viewer, which stays open; twice is harmless.

        Notes
        -----
        A viewer that is still being started is not waited for: it goes on by itself.
        """
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_S + _ROOM_S)

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
                    self._connected, self._moved = True, time.monotonic()
                    self._changed.notify_all()
                self._serve(client, publisher)
        except (ViewerError, ZmqRuntimeError) as error:
            with self._changed:
                self._trouble = str(error)
                self._given_up = True
                self._changed.notify_all()
                ending = self._ending
            if not ending:
                self._tell(f"The run goes on without napari: {error}")
        finally:
            self._service.close()

    def _serve(self, client: ZMQClient, publisher: Publisher) -> None:
        """Send news and pictures until the feed is closed; a viewer that is gone is waited for."""
        from polystore import PolystoreError
        from zmqruntime import ControlTimeout, ZmqRuntimeError

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
                silent = isinstance(error, ControlTimeout)
                trouble = "it does not answer" if silent else str(error)
                now = time.monotonic()
                silent_since = now if silent_since is None else silent_since
                if not told and now - silent_since > self._stalled_s:
                    told = True
                    self._tell(f"napari does not take images, the run goes on: {trouble}")
                with self._changed:
                    self._trouble = trouble
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

        from zmqruntime import RequestError

        with self._changed:
            news = tuple(self._news.values())
            run = RunWells(run=self._run, plate=self._plate, title=self._title, wells=news)
        if not news:
            return
        body = {"name": "run.wells", "args": msgspec.to_builtins(run)}
        try:
            client.control.request("command", body, timeout=_ROOM_S)
        except RequestError as error:  # a viewer without a list of wells still shows images
            logger.warning("%s does not list the wells: %s", self._endpoint, error)
        with self._changed:
            for status in news:
                if self._news.get(status.well) is status:
                    del self._news[status.well]

    def _send_picture(self, publisher: Publisher, picture: Picture) -> None:
        if self._read is None or self._read[0] is not picture:
            self._read = None  # let go of it before the next is read
            self._read = (picture, self._reader.read(picture, self._level or 0, self._run))
        send(publisher, self._read[1], key=picture.key, timeout=_ROOM_S)
        self._read = None
        with self._changed:
            self._waiting.pop(picture.key, None)

    # Small things, under the lock.

    def _add(self, event: WellFinished) -> None:
        """Put a finished well's pictures onto the list."""
        pictures = pictures_of(event)
        if self._level is None and pictures:
            wells = max(len(self._status), 1)
            self._level = level_for(event, wells, self._most_bytes)
            if self._level:
                self._tell(
                    f"napari is sent every {2**self._level}th pixel, so that {wells} wells fit "
                    f"into its memory; open {self._reader.path} in it for all of them"
                )
        if not self._open():
            self._moved = time.monotonic()
        for picture in pictures:
            self._all[picture.key] = picture
            self._waiting[picture.key] = picture
            self._taken_in.discard(picture.key)
            self._refused.pop(picture.key, None)

    def _note(self, status: WellStatus) -> None:
        """Remember the state of a well and that the viewer has not heard of it; under the lock."""
        self._status[status.well] = status
        self._news[status.well] = status
        self._changed.notify_all()

    def _open(self) -> bool:
        """Say whether the viewer lacks pictures that it has not refused."""
        return len(self._taken_in) + len(self._refused) < len(self._all)

    def _send_again(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._all and key not in self._taken_in:
                self._waiting[key] = self._all[key]
                self._refused.pop(key, None)
        self._changed.notify_all()

    # Callbacks, in the client's I/O thread.

    def _on_ack(self, key: str, ack: Ack) -> None:
        from zmqruntime import AckStatus, GapReason

        with self._changed:
            self._moved = time.monotonic()
            if ack.status is not AckStatus.FAILED:
                self._taken_in.add(key)
                self._refused.pop(key, None)
            elif ack.code == GapReason.LEASE_EXPIRED:  # it was too late to look: once more
                self._send_again([key])
            else:
                self._taken_in.discard(key)
                self._refused[key] = ack.text
            self._changed.notify_all()

    def _on_replay(self, keys: tuple[str, ...]) -> None:
        with self._changed:
            self._send_again(keys)

    def _on_welcome(self, welcome: Welcome) -> None:
        """Send everything again to a viewer that started anew: it has nothing yet."""
        with self._changed:
            self._moved = time.monotonic()
            if welcome.server.incarnation == self._incarnation:
                return
            self._incarnation = welcome.server.incarnation
            self._taken_in.clear()
            self._send_again(self._all)
            for status in self._status.values():
                self._note(status)


def _told_apart(plate: str, source: Path) -> str:
    """Give a name that no plate of another folder has, however it is called."""
    digest = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()
    return f"{plate[:200]} #{digest[:6]}"
