"""The sender's half of tiles: the newest frame to each client, as it can take it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from polystore.tiles._client import ClientTiles
from polystore.tiles._dirty import span
from polystore.tiles._encodes import Body, Encode, SharedEncodes
from polystore.tiles._frame import Frame, FrameLedger, Samples, content_hash
from polystore.tiles._grid import Tile
from polystore.tiles._headers import EXACT, PartHeader, Settled
from polystore.tiles._levels import Levels
from polystore.tiles._settle import Settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from polystore.tiles._dirty import Span
    from polystore.tiles._headers import TileMessage, TileRequest
    from polystore.tiles._quality import Choice, Ladder, Rung

__all__ = ["Parcel", "Parts", "TileFeed"]


class Parts(StrEnum):
    """In what a client takes what changed."""

    TILES = "tiles"
    """Each tile by itself."""
    RECTANGLE = "rectangle"
    """The one rectangle that covers it, as for browsers."""
    WHOLE = "whole"
    """The whole frame, for clients that know no tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """What to send to a client at once.

    Attributes
    ----------
    frame
        Number of the frame.
    rung
        Name of the rung, or of the exact one.
    messages
        Messages, each with the bytes that belong to it, in order.
    """

    frame: int
    rung: str
    messages: tuple[tuple[TileMessage, Body | None], ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all parts, without their headers."""
        return sum(memoryview(body).nbytes for _, body in self.messages if body is not None)


@dataclass(slots=True, kw_only=True)
class _Client:
    ladder: Ladder
    parts: Parts
    table: ClientTiles
    settle: Settle
    cursor: tuple[float, float] | None = None
    superseded: int = 0
    waits: bool = False  # the newest frame was not taken yet
    retell: bool = False  # its header was lost


class TileFeed:
    """Sends frames of one lane to any number of clients. Not safe for threads; opens nothing.

    Only the newest frame is ever encoded, and only when a client that can take it asks
    (`take`): one that is replaced before is dropped, at no cost. What two clients get alike
    is encoded once. A client that is slow, or gone, holds nobody up.

    Parameters
    ----------
    encode
        Called with a rung and the pixels of a part, packed, of shape (y, x) or (y, x, 3).
    exact
        The rung of which pixels come back bit for bit, for what is sent after a movement.
    epoch
        Names this life of the sender, differently after every start.
    lane
        Names the view or channel.
    tile_px
        Height and width of a tile.
    clock
        Gives the time in s.
    quiet_s
        How long nothing changes before frames are sent exactly.
    most_encoded_bytes
        Bound of what is kept for clients that have not taken it.

    Raises
    ------
    ValueError
        If `exact` is not of quality 100 and level 0.
    """

    def __init__(
        self,
        encode: Encode,
        *,
        exact: Rung,
        epoch: str,
        lane: str = "",
        tile_px: int = 256,
        clock: Callable[[], float] = time.monotonic,
        quiet_s: float = 0.15,
        most_encoded_bytes: int = 64 * 1024**2,
    ) -> None:
        if exact.quality != EXACT or exact.level:
            raise ValueError(f"rung {exact.name!r} is not exact: {exact.quality}, {exact.level}")
        self._exact = exact
        self._ledger = FrameLedger(epoch, lane=lane, tile_px=tile_px)
        self._levels = Levels(epoch, lane=lane, tile_px=tile_px)
        self._clock = clock
        self._quiet_s = quiet_s
        self._clients: dict[str, _Client] = {}
        self._sha256: tuple[int, str] | None = None
        self.encodes = SharedEncodes(encode, most_bytes=most_encoded_bytes)
        """What was encoded, and how often."""

    @property
    def newest(self) -> Frame | None:
        """The frame that was shown last."""
        return self._ledger.newest

    def join(
        self, client: str, ladder: Ladder, *, parts: Parts = Parts.TILES, cache_bytes: int = 0
    ) -> None:
        """Let a client take part, or begin anew after it connected again.

        Parameters
        ----------
        client
            Its name.
        ladder
            Chooses its rung; its own.
        parts
            In what it takes what changed.
        cache_bytes
            Size of its `TileCache`, 0 without one.
        """
        self._clients[client] = _Client(
            ladder=ladder,
            parts=parts,
            table=ClientTiles(cache_bytes),
            settle=Settle(self._clock, quiet_s=self._quiet_s),
            waits=self._ledger.newest is not None,
        )

    def leave(self, client: str) -> None:
        """Forget a client; one that is not there is none to forget."""
        self._clients.pop(client, None)

    def show(
        self,
        pixels: NDArray[Any],
        *,
        state_version: int,
        samples: Samples = Samples.RGBA,
        level: int = 0,
        full_size: tuple[int, int] | None = None,
    ) -> Frame:
        """Take in the next frame; see `FrameLedger.show`. Encodes nothing.

        Raises
        ------
        TileError
            As `FrameLedger.show`; the frame before it then still counts.
        """
        before = self._ledger.newest
        frame = self._ledger.show(
            pixels,
            state_version=state_version,
            samples=samples,
            level=level,
            full_size=full_size,
        )
        for client in self._clients.values():
            client.superseded += client.waits
            client.waits = True
        refined = (
            before is not None
            and before.header.state_version == state_version
            and before.header.raster.level > level
        )
        if frame.dirty and not refined:
            self.changed()
        return frame

    def changed(self) -> None:
        """Note that a change is about to show, as when input came: nothing more is settled."""
        for client in self._clients.values():
            client.settle.changed()

    def point(self, client: str, y: float, x: float) -> None:
        """Note where a client's cursor is, in pixels of the full frame."""
        self._clients[client].cursor = (y, x)

    def measured(
        self,
        client: str,
        *,
        bytes_per_s: float | None,
        queue_s: float,
        decode_s: float | None = None,
    ) -> Choice:
        """Take in what was measured of a client; see `Ladder.measured`."""
        return self._clients[client].ladder.measured(
            bytes_per_s=bytes_per_s, queue_s=queue_s, decode_s=decode_s
        )

    def asked(self, client: str, request: TileRequest) -> None:
        """Take in what a client lacks; `take` then gives it, of the newest frame."""
        there = self._clients[client]
        there.table.asked(request)
        there.settle.asked(request)
        there.retell = there.retell or request.header
        if request.header or request.whole or request.tiles:
            there.waits = self._ledger.newest is not None

    def superseded(self, client: str) -> int:
        """Count the frames that were replaced before the client could take them."""
        return self._clients[client].superseded

    def deadline(self, client: str) -> float | None:
        """When `take` has something, if nothing happens before.

        None before the first frame, and once the client has the newest exactly and its hash.
        Where the newest frame was drawn coarsely, this is when to draw and `show` it in full.
        """
        there, newest = self._clients[client], self._ledger.newest
        if newest is None:
            return None
        if there.waits:
            return self._clock()
        return None if there.settle.proven(newest.header) else there.settle.deadline

    def take(self, client: str) -> Parcel | None:
        """Give what a client that can take something is to be sent next.

        First the newest frame, if it has not had that; then, once nothing has changed for
        `quiet_s`, one part after the other exactly, from its cursor outwards; last the hash of
        the whole. Counts as sent with the return.

        Returns
        -------
        Parcel or None
            None if the client has everything, or is to wait until `deadline`.

        Raises
        ------
        Exception
            Whatever `encode` raises; nothing then counts as sent.
        """
        there, newest = self._clients[client], self._ledger.newest
        if newest is None:
            return None
        exactly = there.table.told == newest.header and there.settle.due and not there.retell
        if there.waits and not exactly:
            parcel = self._moving(there, newest)
            there.waits = there.retell = False
            if parcel is not None:
                return parcel
        there.waits = False
        if newest.header.raster.level:
            return None  # drawn coarsely; it is settled once it is drawn in full
        return self._settling(there, newest)

    def _moving(self, there: _Client, newest: Frame) -> Parcel | None:
        rung = there.ladder.rung
        frame = self._levels.at(newest, self._level_for(there, newest, rung))
        lacking = there.table.lacking(frame.header)
        if not lacking and there.table.told == frame.header and not there.retell:
            return None
        parts = self._parts(there, frame, lacking, rung)
        parcel = self._send(there, frame, parts, rung, told=True)
        if lacking:
            there.ladder.sent(parcel.nbytes, len(lacking) / len(frame.header.changed))
        return parcel

    def _settling(self, there: _Client, newest: Frame) -> Parcel | None:
        tiles = there.settle.next(newest.header, there.table, there.cursor)
        if tiles:
            spans: list[Span] = [(tiles[0], 1, 1)]
            if there.parts is not Parts.TILES:
                spans = self._spans(there.parts, newest, tiles)
            parts = [(each, self._refers(there, newest, each, self._exact)) for each in spans]
            told = there.table.told != newest.header
            return self._send(there, newest, parts, self._exact, told=told)
        if not there.settle.announce(newest.header, there.table):
            return None
        header = newest.header
        if self._sha256 is None or self._sha256[0] != header.frame:
            self._sha256 = (header.frame, content_hash(newest.cut()))
        settled = Settled(
            epoch=header.epoch,
            lane=header.lane,
            frame=header.frame,
            state_version=header.state_version,
            raster=header.raster,
            sha256=self._sha256[1],
        )
        return Parcel(frame=header.frame, rung=self._exact.name, messages=((settled, None),))

    def _level_for(self, there: _Client, newest: Frame, rung: Rung) -> int:
        """Choose the level; a client that has the picture as it is does not lose it for a stroke.

        What changed is sent at the level that is held while that is no more than all of the
        coarser one would be.
        """
        told, header = there.table.told, newest.header
        if told is not None and told.raster == header.raster:
            lacking = len(there.table.lacking(header))
            coarser = max(rung.level - header.raster.level, 0)
            if max(header.changed) <= told.frame or lacking * 4**coarser <= len(header.changed):
                return header.raster.level
        return max(rung.level, header.raster.level)

    def _parts(
        self, there: _Client, frame: Frame, lacking: list[int], rung: Rung
    ) -> list[tuple[Span, bool]]:
        """Choose what is sent, and whether by a reference to the client's cache alone."""
        all_tiles = frame.header.raster.grid.tiles(frame.header.raster.level)
        tiles = [all_tiles[at] for at in lacking]
        if not tiles:
            return []
        if there.parts is not Parts.TILES:
            spans = self._spans(there.parts, frame, tiles)
            return [(each, self._refers(there, frame, each, rung)) for each in spans]
        single = [((tile, 1, 1), self._refers(there, frame, (tile, 1, 1), rung)) for tile in tiles]
        references = [part for part in single if part[1]]
        if len(single) - len(references) > rung.whole_above * len(all_tiles):
            return [(each, False) for each in self._spans(Parts.WHOLE, frame, tiles)]
        return single

    def _spans(self, parts: Parts, frame: Frame, tiles: Iterable[Tile]) -> list[Span]:
        level = frame.header.raster.level
        if parts is Parts.WHOLE:
            return [(Tile(level, 0, 0), *frame.header.raster.grid.counts(level))]
        found = span(tiles)
        return [] if found is None else [found]

    def _refers(self, there: _Client, frame: Frame, part: Span, rung: Rung) -> bool:
        return there.table.caches and there.table.has_content(
            self.encodes.content(frame, part), rung.quality
        )

    def _send(
        self,
        there: _Client,
        frame: Frame,
        parts: list[tuple[Span, bool]],
        rung: Rung,
        *,
        told: bool,
    ) -> Parcel:
        header = frame.header
        messages: list[tuple[TileMessage, Body | None]] = [(header, None)] if told else []
        made: list[PartHeader] = []
        for each, reference in parts:
            corner, rows, columns = each
            rect = header.raster.grid.rect(*each)
            part = PartHeader(
                epoch=header.epoch,
                lane=header.lane,
                frame=header.frame,
                state_version=header.state_version,
                raster=header.raster,
                row=corner.row,
                column=corner.column,
                rows=rows,
                columns=columns,
                rect=(rect.y, rect.x, rect.height, rect.width),
                quality=rung.quality,
                codec=rung.codec,
                content=self.encodes.content(frame, each) if there.table.caches else None,
                inline=not reference,
            )
            made.append(part)
            messages.append((part, None if reference else self.encodes.body(frame, each, rung)))
        # only now: an encoder that failed has sent nothing
        there.table.tell(header)
        for part in made:
            there.table.sent(part)
        return Parcel(frame=header.frame, rung=rung.name, messages=tuple(messages))
