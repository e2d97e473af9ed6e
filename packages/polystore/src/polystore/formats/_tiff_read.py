"""Images of TIFF files, ours and others', read whole."""

from __future__ import annotations

import json
import math
from typing import IO, TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import numpy as np

from polystore._errors import UnreadableError
from polystore._payload import Payload
from polystore.formats._guard import importing, reading
from polystore.formats._note import read_note
from polystore.formats._tiff_pixels import series_pixels
from polystore.wire._header import PAYLOAD_MOST_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from tifffile import TiffFile, TiffPageSeries

    from polystore.formats._note import Note

__all__ = ["NOTE", "PACKAGE", "read_tiff"]

PACKAGE = "polystore[tiff]"
NOTE = "polystore"
"""Name under which a note stands in JSON, and in the annotations of OME-XML."""

# no codec of microscopes makes more of fewer bytes; LZW and Deflate reach about 1400 and 1030
_PLAUSIBLE_RATIO = 2000
_PLAUSIBLE_BYTES = 64 * 1024**2
_AXES = {"T": "t", "C": "channel", "S": "channel", "Z": "z", "Y": "y", "X": "x"}
_OME = "{*}"
_UM = {"m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "nm": 1e-3, "pm": 1e-6, "Å": 1e-4}


def read_tiff(stream: IO[bytes], where: str, name: str, *, ome: bool = False) -> Payload:
    """Read the one image of a TIFF file, with its note if it carries one.

    Parameters
    ----------
    stream
        At the start of the file.
    where
        Name of the file, for messages.
    name
        Of the format, for messages.
    ome
        Whether there has to be OME-XML.

    Raises
    ------
    UnreadableError
        If it is no TIFF, is cut off or damaged, holds several images, has axes that payloads have
        not, or its planes are in other files.
    MissingExtraError
        If tifffile or imagecodecs is not installed.
    """
    with importing("TIFF", PACKAGE):
        import tifffile
    try:
        with reading(where, name), importing("TIFF", PACKAGE):
            # never with the files that OME-XML names: a stream has no folder, and a file may lie
            with tifffile.TiffFile(stream, _multifile=False) as tif:
                if ome and not tif.is_ome:
                    raise UnreadableError(
                        f"{where} has no OME-XML, or it is damaged: call it .tif if it never had"
                    )
                series = _series(tif, where)
                _check_whole(tif, series, where)
                found = _note(tif, where)
                shape, axes = tuple(series.shape), series.axes
                said = _ome(tif) if tif.is_ome else {}
                pixels = series_pixels(series, where)
            if pixels.shape != shape:
                raise UnreadableError(f"{where} says {shape} and holds {pixels.shape}")
            if found is not None:
                return _ours(pixels, found, where)
            return _theirs(pixels, axes, said, where)
    except tifffile.TiffFileError as error:
        raise UnreadableError(f"{where} cannot be read as {name}: {error}") from error


def _series(tif: TiffFile, where: str) -> TiffPageSeries:
    several = tif.series
    if tif.is_ome and several[0].kind != "ome":
        raise UnreadableError(
            f"{where}: by its OME-XML, some of its planes are in another file, or it is damaged; "
            "read each of the files by itself with polystore.formats.read_plane"
        )
    if len(several) != 1:
        kinds = ", ".join(f"{each.name or 'unnamed'} {tuple(each.shape)}" for each in several[:8])
        raise UnreadableError(
            f"{where} holds {len(several)} images ({kinds}) and not one: read the planes that you "
            "want with polystore.formats.read_plane"
        )
    return several[0]


def _check_whole(tif: TiffFile, series: TiffPageSeries, where: str) -> None:
    # decoders fill what is missing with zeros, and an image that is half black looks real
    size = tif.filehandle.size
    if series.dtype is None:
        raise UnreadableError(f"{where} has samples of no known type")
    nbytes = math.prod(series.shape) * series.dtype.itemsize
    if not nbytes:
        raise UnreadableError(f"{where} says it is {tuple(series.shape)}, which has no pixels")
    if nbytes > max(_PLAUSIBLE_BYTES, _PLAUSIBLE_RATIO * size) or nbytes > PAYLOAD_MOST_BYTES:
        raise UnreadableError(
            f"{where} says it is {tuple(series.shape)} of {series.dtype}, which the {size} bytes "
            "of the file cannot hold, or which is too large to be read at once"
        )
    if series.dataoffset is not None and series.dataoffset + nbytes > size:
        raise UnreadableError(
            f"{where} is cut off: its pixels end at byte {series.dataoffset + nbytes} and the file "
            f"has {size}"
        )
    for number, page in enumerate(series.pages[:1] if series.dataoffset else series.pages):
        if page is None:
            raise UnreadableError(
                f"{where}: plane {number} is in another file; read each of the files by itself "
                "with polystore.formats.read_plane"
            )
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            if offset + count > size or count == 0:
                raise UnreadableError(
                    f"{where} is cut off: a part of plane {number} is at bytes {offset} to "
                    f"{offset + count} and the file has {size}"
                )


def _note(tif: TiffFile, where: str) -> Note | None:
    if tif.ome_metadata:
        for value in ET.fromstring(tif.ome_metadata).findall(f".//{_OME}M"):
            if value.get("K") == NOTE and value.text:
                return read_note(value.text, where)
        return None
    tag = tif.pages[0].tags.get(270) if hasattr(tif.pages[0], "tags") else None
    text = tag.value if tag is not None else None
    if not isinstance(text, str) or not text.startswith("{") or f'"{NOTE}"' not in text:
        return None
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UnreadableError(f"{where}: its description is damaged: {error}") from error
    found = document.get(NOTE)
    return None if found is None else read_note(found, where)


def _ours(pixels: NDArray[Any], note: Note, where: str) -> Payload:
    shape, dtype = note.shape, note.dtype
    if shape is None or dtype is None or math.prod(shape) != pixels.size:
        raise UnreadableError(f"{where} holds {pixels.shape}, and its note says {shape}")
    if dtype.newbyteorder("=") != pixels.dtype.newbyteorder("="):
        raise UnreadableError(f"{where} holds {pixels.dtype}, and its note says {dtype}")
    pixels = pixels.astype(dtype, copy=False).reshape(shape)
    pixels.flags.writeable = False
    return note.payload(pixels)


def _theirs(pixels: NDArray[Any], axes: str, said: dict[str, Any], where: str) -> Payload:
    if not pixels.dtype.isnative:
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
    # Q and I are what tifffile calls pages of which nothing is said
    kept = [n for n, axis in enumerate(axes) if pixels.shape[n] != 1 or axis in "YX"]
    pixels = pixels.reshape([pixels.shape[n] for n in kept])
    axes = "".join(axes[n] for n in kept)
    if len(axes) == 3 and axes[0] in "QI":
        axes = f"Z{axes[1:]}"
    if not {"Y", "X"} <= {*axes} or {*axes} - {*_AXES} or len({*axes} & {"C", "S"}) > 1:
        raise UnreadableError(
            f"{where} is {pixels.shape} with the axes {axes!r}, and payloads have t, channel, z, y "
            "and x: read the planes that you want with polystore.formats.read_plane"
        )
    order = [n for n, axis in enumerate(axes) if axis not in "YX"]
    order += [axes.index("Y"), axes.index("X")]
    pixels = np.ascontiguousarray(pixels.transpose(order))
    pixels.flags.writeable = False
    return Payload(data=pixels, axes=tuple(_AXES[axes[n]] for n in order), **said)


def _ome(tif: TiffFile) -> dict[str, Any]:
    """Read what OME-XML of others says and a payload can say too."""
    said: dict[str, Any] = {}
    root = ET.fromstring(tif.ome_metadata or "<OME/>")
    pixels = root.find(f"{_OME}Image/{_OME}Pixels")
    if pixels is None:
        return said
    sizes = [_um(pixels, "PhysicalSizeY"), _um(pixels, "PhysicalSizeX")]
    if sizes[0] and sizes[1]:
        said["pixel_um"] = (sizes[0], sizes[1])
    channels = pixels.findall(f"{_OME}Channel")
    if len(channels) == 1 and (name := channels[0].get("Name")):
        said["channel_name"] = name
    return said


def _um(pixels: ET.Element, name: str) -> float | None:
    """Read a length in µm; one in no unit of length, as pixels, is not known."""
    factor = _UM.get(pixels.get(f"{name}Unit", "µm"))
    try:
        length = float(pixels.get(name, ""))
    except ValueError:
        return None
    if factor is None or not math.isfinite(length) or length <= 0:
        return None
    return length * factor
