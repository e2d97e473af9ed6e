"""What instruments of all vendors have: a clock, wavelengths, identifiers, TIFF files."""

from __future__ import annotations

import datetime
import hashlib
import io
import uuid
from typing import TYPE_CHECKING, Any

from openhcs.testing._spec import Seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.testing._spec import PlaneKey, PlateSpec

__all__ = ["acquired_at", "encode_tiff", "guid", "wavelengths_nm"]

_START = datetime.datetime(2026, 3, 17, 9, 12, 40, 318000)
_WAVELENGTHS = {
    "DAPI": (377, 447),
    "HOECHST": (377, 447),
    "GFP": (475, 536),
    "FITC": (475, 536),
    "TRITC": (543, 593),
    "RFP": (543, 593),
    "TEXAS RED": (560, 624),
    "CY5": (631, 692),
}


def encode_tiff(
    pixels: NDArray[Any], *, compression: str, rows_per_strip: int, **tags: Any
) -> bytes:
    """Encode one image as a little-endian TIFF.

    Parameters
    ----------
    pixels
        Shape (y, x), unsigned integers.
    compression
        ``none``, ``lzw`` or ``deflate``.
    rows_per_strip
        In px.
    tags
        Further arguments of `tifffile.TiffWriter.write`.

    Returns
    -------
    bytes
        The file.
    """
    import tifffile

    if isinstance(tags.get("description"), str):
        # As text, tifffile takes ASCII alone; microscopes write channel names as they are.
        tags["description"] = tags["description"].encode()
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, bigtiff=False, byteorder="<") as writer:
        writer.write(
            pixels,
            photometric="minisblack",
            metadata=None,
            compression={"none": None, "lzw": "lzw", "deflate": "adobe_deflate"}[compression],
            rowsperstrip=rows_per_strip,
            maxworkers=1,
            **tags,
        )
    return buffer.getvalue()


def acquired_at(spec: PlateSpec, key: PlaneKey) -> datetime.datetime:
    """Say when a plane was taken: an even pace over the whole plate, wells row by row."""
    place = (key.t * spec.plate_rows + key.row) * spec.plate_columns + key.col
    place = ((place * spec.fields + key.field) * len(spec.channels) + key.channel) * spec.z + key.z
    return _START + datetime.timedelta(milliseconds=415 * place)


def wavelengths_nm(spec: PlateSpec, channel: int) -> tuple[int, int]:
    """Excitation and emission of a channel, by its name, else by its number."""
    return _WAVELENGTHS.get(
        spec.channels[channel].upper(), (400 + 60 * channel % 300, 450 + 60 * channel % 300)
    )


def guid(spec: PlateSpec, *key: object) -> str:
    """Make an identifier, upper case without braces, from the plate's seed and a key."""
    text = repr((spec.seed, spec.name, Seed.IDENTIFIER, *key))
    return str(uuid.UUID(bytes=hashlib.sha256(text.encode()).digest()[:16])).upper()
