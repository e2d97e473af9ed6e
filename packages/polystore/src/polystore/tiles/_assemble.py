"""The receiver's half of tiles: parts in any order become frames that were, or nothing new."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from polystore._errors import TileError
from polystore.tiles._early import EarlyTile, EarlyTiles, rank
from polystore.tiles._frame import content_hash
from polystore.tiles._headers import (
    EXACT,
    FrameHeader,
    PartHeader,
    Raster,
    Settled,
    TileMessage,
    TileRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from polystore.tiles._cache import TileCache

__all__ = ["Assembler", "Picture", "Taken"]

_PAST_EPOCHS = 16
_NOTHING = (-1, 0)

Decode: TypeAlias = "Callable[[PartHeader, bytes | bytearray | memoryview], NDArray[Any]]"


class Taken(StrEnum):
    """What became of a message."""

    NEW = "new"
    """It is kept."""
    HELD = "held"
    """As much was there already; it was not decoded."""
    STALE = "stale"
    """It is of a frame, or of a life of the sender, that a newer one has replaced."""
    EARLY = "early"
    """It is of a life of the sender of which no frame is known; it was not kept."""
    CORRUPT = "corrupt"
    """Its pixels are not what its header says; it was not kept."""
    NOT_CACHED = "not cached"
    """It refers to the cache, which does not have it any more."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A frame as it was at the sender.

    Attributes
    ----------
    header
        Which frame it is and what state it shows.
    pixels
        Shape (y, x) or (y, x, 3), read-only. The assembler's own memory: it stays as it is until
        the next `Assembler.take`.
    exact
        Whether every tile is bit for bit that of the sender.
    verified
        Whether the hash of the whole equals the sender's; None when the sender sent none.
    """

    header: FrameHeader
    pixels: NDArray[Any]
    exact: bool
    verified: bool | None


class Assembler:
    """Puts frames of one lane together. Not safe for threads.

    A frame is given out only when each of its tiles is there: a picture never mixes states, and
    never goes back to an older one. Messages may be lost, repeated and reordered; what is lacking
    is known, and `missing` says it for the sender to send again.

    Parameters
    ----------
    decode
        Called with the header and the bytes of a part that is wanted; gives an array of the
        shape ``header.raster.shape_of(header.area)`` and the raster's type.
    lane
        Messages of other lanes are refused.
    cache
        Where parts are kept by their content; without one, the sender has to send everything.
    most_bytes
        The largest frame that is accepted.
    """

    def __init__(
        self,
        decode: Decode,
        *,
        lane: str = "",
        cache: TileCache | None = None,
        most_bytes: int = 512 * 1024**2,
    ) -> None:
        self._decode = decode
        self._lane = lane
        self._cache = cache
        self._most_bytes = most_bytes
        self._target: FrameHeader | None = None
        self._past: list[str] = []
        # of each tile of the target: the frame it was cut from and how good it is, or None
        self._held: list[tuple[int, int] | None] = []
        self._fresh: dict[int, NDArray[Any]] = {}  # held, and not on the canvas yet
        self._early = EarlyTiles()
        self._canvas: NDArray[Any] | None = None
        self._shown: FrameHeader | None = None
        self._news = False
        self._settled: Settled | None = None
        self._announced = _NOTHING  # the newest that any message named
        self._distrusted = False
        self.corrupt = 0
        """How many parts were not what their headers said."""
        self.mismatches = 0
        """How many settled frames did not have the sender's hash."""

    @property
    def target(self) -> FrameHeader | None:
        """The newest frame that is known of, complete or not."""
        return self._target

    @property
    def shown(self) -> FrameHeader | None:
        """The frame that `take` gave last."""
        return self._shown

    @property
    def complete(self) -> bool:
        """Whether all of the newest frame that is known of is there."""
        return self._target is not None and not self._lacking(0)

    def receive(
        self, message: TileMessage, body: bytes | bytearray | memoryview | None = None
    ) -> Taken:
        """Take in a message of the sender.

        Parameters
        ----------
        message
            As `from_header` read it.
        body
            Bytes of a part that has any.

        Raises
        ------
        TileError
            If it is of another lane, a request, or a part without its bytes, or if the frame is
            larger than `most_bytes`. Nothing has changed then.
        Exception
            Whatever `decode` raises; the part is then still missing.
        """
        if isinstance(message, TileRequest) or message.lane != self._lane:
            raise TileError(
                f"lane {self._lane!r} takes no {type(message).__name__} of lane {message.lane!r}"
            )
        if isinstance(message, FrameHeader):
            return self._receive_frame(message)
        if self._target is None or message.epoch != self._target.epoch:
            return Taken.STALE if message.epoch in self._past else Taken.EARLY
        if isinstance(message, Settled):
            return self._receive_settled(message)
        return self._receive_part(message, body)

    def missing(self) -> TileRequest | None:
        """Say what is lacking of the newest frame; None if nothing is.

        To be asked when a frame has not come together within a round trip or so: what is under
        way is lacking too, and would be sent twice.
        """
        target = self._target
        if target is None:
            return TileRequest(lane=self._lane, header=True, whole=True)
        wanted = 0 if self._to_verify() is None else EXACT
        lacking = self._lacking(wanted)
        behind = self._announced > rank(target)
        if not (lacking or behind or self._distrusted):
            return None
        columns = target.raster.grid.counts(target.raster.level)[1]
        return TileRequest(
            epoch=target.epoch,
            lane=self._lane,
            frame=target.frame,
            level=target.raster.level,
            tiles=tuple(divmod(at, columns) for at in lacking),
            header=behind,
            whole=self._distrusted,
            exact=wanted == EXACT,
        )

    def take(self) -> Picture | None:
        """Give the newest frame, if it is complete and anything of it is new.

        Notes
        -----
        Copies the tiles that are new, and hashes all of a frame that has settled (about 2 GB/s).
        """
        target = self._target
        if target is None or not self._news or self._lacking(0):
            return None
        raster = target.raster
        if self._canvas is None or self._shown is None or self._shown.raster != raster:
            self._canvas = np.zeros(raster.shape, raster.dtype)
        grid = raster.grid
        for at, pixels in self._fresh.items():
            self._canvas[grid.rect(grid.tile(at, raster.level)).slices] = pixels
        self._fresh.clear()
        self._shown = target
        self._news = False
        exact = not self._lacking(EXACT)
        verified = None
        if exact and (settled := self._to_verify()) is not None:
            verified = content_hash(self._canvas) == settled.sha256
            if not verified:
                self._distrust()
        view = self._canvas.view()
        view.flags.writeable = False
        return Picture(header=target, pixels=view, exact=exact, verified=verified)

    def _receive_frame(self, header: FrameHeader) -> Taken:
        if header.epoch in self._past:
            return Taken.STALE
        target = self._target
        same_epoch = target is not None and target.epoch == header.epoch
        if target is not None and same_epoch and rank(header) <= rank(target):
            return Taken.HELD if rank(header) == rank(target) else Taken.STALE
        self._check_size(header.raster)
        if not same_epoch:
            if target is not None:
                self._past = [*self._past, target.epoch][-_PAST_EPOCHS:]
            self._announced = _NOTHING
            self._early.clear()
        if target is None or (target.epoch, target.raster) != (header.epoch, header.raster):
            self._held = [None] * len(header.changed)
            self._fresh.clear()
            self._distrusted = False
        self._target = header
        self._announced = max(self._announced, rank(header))
        self._news = True
        if self._settled is not None and rank(self._settled) < rank(header):
            self._settled = None
        for at, early in self._early.take_up_to(header):
            if early.raster == header.raster and self._improves(at, early.frame, early.quality):
                self._hold(at, early.frame, early.quality, early.pixels)
        return Taken.NEW

    def _receive_settled(self, message: Settled) -> Taken:
        assert self._target is not None
        self._announced = max(self._announced, rank(message))
        if rank(message) < rank(self._target):
            return Taken.STALE
        if message == self._settled:
            return Taken.HELD
        self._settled = message
        self._news = self._news or self._to_verify() is not None
        return Taken.NEW

    def _receive_part(self, part: PartHeader, body: bytes | bytearray | memoryview | None) -> Taken:
        target = self._target
        assert target is not None
        if part.inline and body is None:
            raise TileError("the bytes of a part did not come with it")
        self._announced = max(self._announced, rank(part))
        grid = part.raster.grid
        places = [grid.index(tile) for tile in part.tiles]
        early = rank(part) > rank(target)
        if early:
            self._check_size(part.raster)
            wanted = self._early.wanted(part, places)
        elif part.raster != target.raster:
            return Taken.STALE
        else:
            wanted = [at for at in places if self._improves(at, part.frame, part.quality)]
            if not wanted and all(part.frame < target.changed[at] for at in places):
                return Taken.STALE
        if not wanted:
            return Taken.HELD
        pixels, quality = self._pixels(part, body)
        if isinstance(pixels, Taken):
            return pixels
        whole = part.area
        for at in wanted:
            rect = grid.rect(grid.tile(at, part.raster.level))
            top, left = rect.y - whole.y, rect.x - whole.x
            piece = pixels[top : top + rect.height, left : left + rect.width]
            if early:
                self._early.put(at, EarlyTile(part.frame, quality, part.raster, piece))
            else:
                self._hold(at, part.frame, quality, piece)
        return Taken.NEW

    def _pixels(
        self, part: PartHeader, body: bytes | bytearray | memoryview | None
    ) -> tuple[NDArray[Any] | Taken, int]:
        if not part.inline:
            assert part.content is not None
            found = None
            if self._cache is not None:
                found = self._cache.get(part.content, part.quality)
            if found is None:
                return Taken.NOT_CACHED, 0
            pixels, quality = found.pixels, found.quality
        else:
            assert body is not None
            pixels, quality = self._decode(part, body), part.quality
            if type(body) is not bytes and np.may_share_memory(
                pixels, np.frombuffer(body, np.uint8)
            ):
                pixels = pixels.copy()  # whoever brought the bytes may take them away again
        expected = part.raster.shape_of(part.area)
        if (
            pixels.shape != expected
            or pixels.dtype != np.dtype(part.raster.dtype)
            or (
                part.inline
                and part.content is not None
                and quality == EXACT
                and content_hash(pixels) != part.content
            )
        ):
            self.corrupt += 1
            return Taken.CORRUPT, 0
        if part.inline and part.content is not None and self._cache is not None:
            self._cache.put(part.content, quality, pixels)
        return pixels, quality

    def _to_verify(self) -> Settled | None:
        """Give the hash of the target, if the sender sent one."""
        target, settled = self._target, self._settled
        if target is None or settled is None or rank(settled) != rank(target):
            return None
        return settled

    def _distrust(self) -> None:
        """Hold nothing any more; what is shown stays until it is replaced."""
        self.mismatches += 1
        self._held = [None] * len(self._held)
        self._distrusted = True
        if self._cache is not None:
            self._cache.clear()

    def _check_size(self, raster: Raster) -> None:
        if raster.nbytes > self._most_bytes:
            raise TileError(
                f"a frame of {raster.nbytes} bytes is larger than {self._most_bytes}, the most "
                "that this receiver takes"
            )

    def _improves(self, at: int, frame: int, quality: int) -> bool:
        """Say whether a tile of a frame up to the target is better than what is held.

        A tile has the target's content if it was cut when, or after, that changed last; so have
        all such cuts, and the best of them counts, whichever came last.
        """
        assert self._target is not None
        changed = self._target.changed[at]
        held = self._held[at]
        if frame < changed:
            return False
        return held is None or held[0] < changed or held[1] < quality

    def _hold(self, at: int, frame: int, quality: int, pixels: NDArray[Any]) -> None:
        self._held[at] = (frame, quality)
        self._fresh[at] = pixels
        self._news = True
        self._distrusted = False

    def _lacking(self, quality: int) -> list[int]:
        """List the tiles of the target of which no cut as good as that is held."""
        assert self._target is not None
        return [
            at
            for at, (held, changed) in enumerate(zip(self._held, self._target.changed, strict=True))
            if held is None or held[0] < changed or held[1] < quality
        ]
