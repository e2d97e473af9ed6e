"""What travels with tiles, as values that any wire can carry: plain maps of text and numbers.

Four messages, told apart by ``type``; ``v`` is the number of this format, 1:

``frame``
    What a frame is made of. ``frame`` is its number, ``state_version`` the state that it shows,
    and ``changed`` says for each of its tiles, row by row, the number of the frame in which its
    pixels changed last. A receiver needs nothing else to know what it lacks.
``part``
    Comes with the bytes of one tile, or of several side by side, cut from frame ``frame``:
    ``level``, ``row``, ``column``, ``rows`` and ``columns`` in tiles, ``rect`` (y, x, height,
    width) in pixels of that level, and how good it is, ``quality``, 100 where it is exact.
    ``content`` is a hash of the pixels before they were encoded. Without bytes (``inline`` is
    false), the receiver has that content in its cache.
``settled``
    The frame was sent exactly, and this is the SHA-256 of all of it.
``request``
    From the receiver: what it lacks of the newest frame that it knows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np

from polystore._dtypes import DTYPES
from polystore._errors import WireHeaderError, WireVersionError
from polystore._typed import from_plain
from polystore.tiles._grid import LEVELS_MOST, SIDE_MOST_PX, TILES_MOST, Rect, Tile, TileGrid

__all__ = [
    "EXACT",
    "TILES_VERSION",
    "FrameHeader",
    "PartHeader",
    "Raster",
    "Settled",
    "TileMessage",
    "TileRequest",
    "from_header",
    "to_header",
]

TILES_VERSION = 1
"""Number of the format of these messages."""
EXACT = 100
"""Quality of a part whose pixels are the frame's, bit for bit."""

_Side = Annotated[int, msgspec.Meta(ge=1, le=SIDE_MOST_PX)]
_Place = Annotated[int, msgspec.Meta(ge=0, lt=TILES_MOST)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Name = Annotated[str, msgspec.Meta(max_length=256)]
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]


class Raster(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the pixels of a frame are laid out once they are decoded.

    Attributes
    ----------
    height, width
        Of the full frame, in pixels.
    level
        Which level is meant: 0 is the full frame, 1 is half as high and wide.
    tile_px
        Height and width of a tile.
    dtype
        Type of an element in numpy's short form, as ``"|u1"`` or ``"<u2"``.
    samples
        1 (an array y, x) or 3 (y, x and red, green, blue).

    Raises
    ------
    ValueError
        If there is no such frame.
    """

    height: _Side
    width: _Side
    level: Annotated[int, msgspec.Meta(ge=0, lt=LEVELS_MOST)] = 0
    tile_px: _Side = 256
    dtype: Annotated[str, msgspec.Meta(max_length=4)] = "|u1"
    samples: Annotated[int, msgspec.Meta(ge=1, le=3)] = 3

    def __post_init__(self) -> None:
        order, element = self.dtype[:1], self.dtype[1:]
        if element not in DTYPES or order != ("|" if element[-1] == "1" else "<"):
            raise ValueError(f"elements of type {self.dtype!r} are not allowed")
        if self.samples == 2:
            raise ValueError("a pixel is 1 or 3 samples, not 2")
        _ = self.grid

    @property
    def grid(self) -> TileGrid:
        """How it is cut, as far as this level."""
        return TileGrid(
            height=self.height, width=self.width, tile_px=self.tile_px, levels=self.level + 1
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with all pixels of the level."""
        return self.shape_of(None)

    @property
    def nbytes(self) -> int:
        """Bytes of such an array."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def nbytes_per_pixel(self) -> int:
        """Bytes of one pixel."""
        return self.samples * np.dtype(self.dtype).itemsize

    def shape_of(self, rect: Rect | None) -> tuple[int, ...]:
        """Shape of an array with the pixels of a rectangle; None is all of the level."""
        sides = self.grid.size(self.level) if rect is None else (rect.height, rect.width)
        return sides if self.samples == 1 else (*sides, self.samples)


class FrameHeader(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="frame"
):
    """What a frame is made of.

    Attributes
    ----------
    epoch
        Names one life of the sender: numbers of frames begin anew with another.
    lane
        Names the view or channel among those of one session.
    frame
        Number of the frame; later ones have higher numbers.
    state_version
        Version of the state that it shows.
    raster
        How it is laid out.
    changed
        For each tile, row by row, in which frame its pixels changed last; at most `frame`.

    Raises
    ------
    ValueError
        If `changed` is not what the raster and the number allow.
    """

    epoch: _Name
    lane: _Name
    frame: _Count
    state_version: _Count
    raster: Raster
    changed: Annotated[tuple[_Count, ...], msgspec.Meta(max_length=TILES_MOST)]
    v: int = TILES_VERSION

    def __post_init__(self) -> None:
        rows, columns = self.raster.grid.counts(self.raster.level)
        if len(self.changed) != rows * columns:
            raise ValueError(
                f"{rows} x {columns} tiles are {rows * columns}, not {len(self.changed)}"
            )
        if max(self.changed) > self.frame:
            raise ValueError(
                f"a tile of frame {self.frame} cannot have changed in frame {max(self.changed)}"
            )


class PartHeader(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="part"):
    """What a tile, or several side by side, are of.

    Attributes
    ----------
    epoch, lane, frame, state_version, raster
        As in the header of the frame from which it was cut.
    row, column
        Of its first tile, from the top left.
    rows, columns
        How many tiles it is high and wide.
    rect
        y, x, height and width of its pixels, in pixels of the raster's level.
    quality
        0 to 100; 100, `EXACT`, is bit for bit.
    codec
        Names what its bytes were encoded with.
    content
        SHA-256 of its pixels as they were before encoding, packed and top down, in hexadecimal
        digits; None where no cache is kept.
    inline
        Whether its bytes come with it. Where not, the receiver's cache has the content.

    Raises
    ------
    ValueError
        If the rectangle is not that of its tiles, or nothing says where its pixels are.
    """

    epoch: _Name
    lane: _Name
    frame: _Count
    state_version: _Count
    raster: Raster
    row: _Place
    column: _Place
    rows: Annotated[int, msgspec.Meta(ge=1, le=TILES_MOST)] = 1
    columns: Annotated[int, msgspec.Meta(ge=1, le=TILES_MOST)] = 1
    rect: tuple[int, int, int, int]
    quality: Annotated[int, msgspec.Meta(ge=0, le=EXACT)]
    codec: _Name
    content: _Hash | None = None
    inline: bool = True
    v: int = TILES_VERSION

    def __post_init__(self) -> None:
        rect = self.area
        if (rect.y, rect.x, rect.height, rect.width) != self.rect:
            raise ValueError(f"{self.rows} x {self.columns} tiles are {rect}, not {self.rect}")
        if not self.inline and self.content is None:
            raise ValueError("a part has bytes or names its content")

    @property
    def area(self) -> Rect:
        """Its pixels, in pixels of the raster's level."""
        corner = Tile(self.raster.level, self.row, self.column)
        return self.raster.grid.rect(corner, self.rows, self.columns)

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """Its tiles, row by row."""
        return tuple(
            Tile(self.raster.level, row, column)
            for row in range(self.row, self.row + self.rows)
            for column in range(self.column, self.column + self.columns)
        )


class Settled(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="settled"):
    """A frame was sent exactly, and this is the hash of all of it.

    Attributes
    ----------
    epoch, lane, frame, state_version, raster
        As in the header of the frame.
    sha256
        Of its pixels, packed and top down, in hexadecimal digits.
    """

    epoch: _Name
    lane: _Name
    frame: _Count
    state_version: _Count
    raster: Raster
    sha256: _Hash
    v: int = TILES_VERSION


class TileRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="request"
):
    """What a receiver lacks.

    Attributes
    ----------
    epoch, lane
        Of what it has; an epoch of "" has nothing yet.
    frame
        The newest that it knows of.
    level
        Of the tiles.
    tiles
        Row and column of those that it lacks.
    header
        It lacks the header of a newer frame, whose parts came.
    whole
        Nothing that it holds counts, as when a hash did not match.
    exact
        It lacks them exactly.
    """

    epoch: _Name = ""
    lane: _Name = ""
    frame: _Count = 0
    level: Annotated[int, msgspec.Meta(ge=0, lt=LEVELS_MOST)] = 0
    tiles: Annotated[tuple[tuple[_Place, _Place], ...], msgspec.Meta(max_length=TILES_MOST)] = ()
    header: bool = False
    whole: bool = False
    exact: bool = False
    v: int = TILES_VERSION


TileMessage: TypeAlias = FrameHeader | PartHeader | Settled | TileRequest


def to_header(message: TileMessage) -> dict[str, Any]:
    """Write a message as a map of text, numbers and lists of them, for msgpack or JSON."""
    written: dict[str, Any] = msgspec.to_builtins(message)
    return written


def from_header(header: Mapping[str, Any]) -> TileMessage:
    """Read a message, and check that what it says can be.

    Raises
    ------
    WireVersionError
        If it is of another version of the format.
    WireHeaderError
        If it is no message of tiles, or contradicts itself.
    """
    if not isinstance(header, Mapping):
        raise WireHeaderError(f"a message of tiles is a map, not {type(header).__name__}")
    if (version := header.get("v")) != TILES_VERSION or type(version) is not int:
        raise WireVersionError(
            f"the message is of version {version!r}, this is version {TILES_VERSION}: "
            "use the same polystore at both ends"
        )
    try:
        union: Any = TileMessage  # no `type`
        message: TileMessage = from_plain(header, union)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise WireHeaderError(f"the message of tiles cannot be read: {error}") from error
    return message
