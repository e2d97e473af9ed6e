"""Images and labels as OME-TIFF."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from polystore._kinds import Kind
from polystore.formats._guard import importing
from polystore.formats._note import as_note
from polystore.formats._tiff import native, resolution, tiff_axes, tiff_refusal
from polystore.formats._tiff_read import NOTE, PACKAGE, read_tiff

if TYPE_CHECKING:
    from polystore._payload import Payload
    from polystore.formats._tiff import TiffCompression

__all__ = ["OmeTiffFormat"]

_TYPES = frozenset({"b1", "u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"})
_NAMESPACE = "polystore"
# what XML 1.0 has no way to say
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class OmeTiffFormat:
    """Images and labels as ``.ome.tif`` and ``.ome.tiff``, which microscopy programs open.

    Axes, size of a pixel, name and name of the channel are said in OME-XML. The note, which says
    the rest, is a map annotation there. ``tifffile.imread`` leaves out axes of length 1; read by
    polystore they are there.

    Parameters
    ----------
    compression
        Of the pixels, without loss.
    """

    compression: TiffCompression = "none"

    @property
    def name(self) -> str:
        """``"OME-TIFF"``."""
        return "OME-TIFF"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """``".ome.tif"`` and ``".ome.tiff"``."""
        return (".ome.tif", ".ome.tiff")

    @property
    def package(self) -> str:
        """tifffile, and imagecodecs for what is compressed."""
        return PACKAGE

    @property
    def kinds(self) -> frozenset[Kind]:
        """What has pixels."""
        return frozenset({Kind.IMAGE, Kind.LABELS})

    def refusal(self, payload: Payload) -> str | None:
        """Refuse what is no image, one without pixels, and types that OME does not know."""
        if reason := tiff_refusal(payload):
            return reason
        dtype = payload.array.dtype
        if dtype.kind + str(dtype.itemsize) not in _TYPES:
            return f"OME has no elements of type {dtype.name}"
        return None

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
        note = json.dumps(as_note(payload, dtype=array.dtype, shape=array.shape))
        metadata: dict[str, Any] = {
            "axes": tiff_axes(payload),
            "MapAnnotation": {"Namespace": _NAMESPACE, NOTE: note},
            # one of its own for each file, and the same for the same file
            "UUID": _uuid(note, array),
        }
        if payload.name:
            metadata["Name"] = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", payload.name)
        if payload.pixel_um is not None:
            for axis, side in zip("YX", payload.pixel_um, strict=True):
                metadata[f"PhysicalSize{axis}"] = side
                metadata[f"PhysicalSize{axis}Unit"] = "µm"
        if payload.channel_name and "channel" not in payload.axes:
            name = _NO_XML.sub("\N{REPLACEMENT CHARACTER}", payload.channel_name)
            metadata["Channel"] = {"Name": [name]}
        with importing("TIFF", PACKAGE):
            tifffile.imwrite(
                stream,
                native(array),
                ome=True,
                photometric="minisblack",
                compression=None if self.compression == "none" else self.compression,
                metadata=metadata,
                software=False,
                **resolution(payload),
            )

    def read(self, stream: IO[bytes], where: str) -> Payload:
        """Read the image of a file, whoever wrote it.

        Of files of others, the size of a pixel and, of one channel, the name are taken from
        OME-XML.

        Raises
        ------
        UnreadableError
            If it is no TIFF, has no OME-XML, is cut off or damaged, holds several images, axes that
            payloads have not, or its planes are in other files.
        MissingExtraError
            If tifffile or imagecodecs is not installed.
        """
        return read_tiff(stream, where, self.name, ome=True)


def _uuid(note: str, array: np.ndarray[Any, Any]) -> str:
    made = hashlib.blake2b(note.encode(), digest_size=16)
    made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return uuid.UUID(bytes=made.digest(), version=5).urn
