"""Images and labels as TIFF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from polystore._kinds import Kind
from polystore.files._room import reserve
from polystore.formats._guard import importing
from polystore.formats._note import as_note
from polystore.formats._tiff_read import NOTE, PACKAGE, read_tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from polystore._payload import Payload

__all__ = ["TiffCompression", "TiffFormat", "native", "resolution", "tiff_axes", "tiff_refusal"]

TiffCompression = Literal["none", "lzw", "zlib"]
"""``"none"`` is the quickest, ``"lzw"`` is read by everything."""

_LETTERS = {"t": "T", "channel": "C", "z": "Z", "y": "Y", "x": "X"}


@dataclass(frozen=True, slots=True)
class TiffFormat:
    """Images and labels as ``.tif`` and ``.tiff``, a page for each plane.

    The note is in the image description, in the JSON that tifffile puts there, so that
    ``tifffile.imread`` gives the array in its own shape; other programs see a stack. The size of a
    pixel is in the resolution tags too. Elements keep their type; those of 64 bits, and floats of
    16, are read by few other programs.

    Parameters
    ----------
    compression
        Of the pixels, without loss.
    """

    compression: TiffCompression = "none"

    @property
    def name(self) -> str:
        """``"TIFF"``."""
        return "TIFF"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".tif"`` and ``".tiff"``."""
        return (".tif", ".tiff")

    @property
    def package(self) -> str:
        """tifffile, and imagecodecs for what is compressed."""
        return PACKAGE

    @property
    def kinds(self) -> frozenset[Kind]:
        """What has pixels."""
        return frozenset({Kind.IMAGE, Kind.LABELS})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what is no image, and one without pixels."""
        return tiff_refusal(payload)

    def write(self, payload: Payload, stream: IO[bytes]) -> None:
        """Write a page for each plane.

        Raises
        ------
        MissingExtraError
            If tifffile, or for compressed files imagecodecs, is not installed.
        """
        with importing("TIFF", PACKAGE):
            import tifffile
        array = payload.array
        if self.compression == "none" and array.dtype != np.bool_:  # of which eight are a byte
            reserve(stream, array.nbytes)
        with importing("TIFF", PACKAGE):
            tifffile.imwrite(
                stream,
                native(array),
                photometric="minisblack",
                compression=None if self.compression == "none" else self.compression,
                metadata={
                    "axes": tiff_axes(payload),
                    NOTE: as_note(payload, dtype=array.dtype, shape=array.shape),
                },
                software=False,
                **resolution(payload),
            )

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read the image of a file, whoever wrote it.

        Samples of a pixel, as red, green and blue, are channels. Stored numbers are given as they
        are: a palette is not applied, an inverted scale stays.

        Raises
        ------
        UnreadableError
            If it is no TIFF, is cut off or damaged, holds several images, or axes that payloads
            have not.
        MissingExtraError
            If tifffile or imagecodecs is not installed.
        """
        return read_tiff(stream, where, self.name)


def native(array: NDArray[Any]) -> NDArray[Any]:
    """Put elements in the byte order of this computer; the note keeps theirs."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def tiff_refusal(payload: Payload) -> str | None:
    """Say why a payload cannot be TIFF."""
    if payload.kind not in {Kind.IMAGE, Kind.LABELS}:
        return f"it holds pixels, and this is of kind {payload.kind}"
    if not payload.array.size:
        return f"an image of shape {payload.array.shape} has no pixels, and a TIFF file has some"
    if max(payload.array.shape[-2:]) > 2**31 - 1:
        return "it is too wide or too high"
    return None


def tiff_axes(payload: Payload) -> str:
    """Name the axes as tifffile does, as ``"CYX"``."""
    return "".join(_LETTERS[axis] for axis in payload.axes)


def resolution(payload: Payload) -> dict[str, Any]:
    """Give the size of a pixel as tifffile wants it, where the tags can say it."""
    if payload.pixel_um is None or not all(1e-4 <= side <= 1e6 for side in payload.pixel_um):
        return {}
    height, width = payload.pixel_um
    return {"resolution": (1e4 / width, 1e4 / height), "resolutionunit": "CENTIMETER"}
