"""A payload as an OME-Zarr image or label image, and back.

What OME-Zarr has words for is said in them, so that every reader of it knows the size of a pixel,
the channel and the window; all that is known about the payload is in the image's attribute
``polystore.payload`` besides, from which it comes back to the last bit.
"""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any

import numpy as np

from polystore._errors import LayoutError, PayloadError, UnreadableError
from polystore._kinds import Kind
from polystore._payload import Payload
from polystore.formats._note import as_note, read_note
from polystore.omezarr._image_read import ImageReader
from polystore.omezarr._image_write import PyramidWriter, percentiles
from polystore.omezarr._multiscales import ChannelMeta, ImageMeta, channels, multiscale
from polystore.omezarr._pyramid import halve_labels, halve_mean, halved, level_shapes
from polystore.wire._header import PAYLOAD_MOST_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from polystore.omezarr._groups import OmeVersion
    from polystore.omezarr._places import Place

__all__ = ["PayloadWriter", "read_payload", "refusal"]

_TO_OME = {"t": "t", "channel": "c", "z": "z"}
_FROM_OME = {"t": "t", "c": "channel", "z": "z"}
# of which the mean of four is not exact, or means nothing: these have one level
_WITHOUT_MEAN = frozenset({"b1", "i8", "u8", "f2"})
_COARSEST_PX = 512


def refusal(payload: Payload) -> str | None:
    """Say why a payload cannot be an image of OME-Zarr; None if it can."""
    if payload.kind not in {Kind.IMAGE, Kind.LABELS}:
        return (
            f"a store of OME-Zarr holds images and labels, and this is of kind {payload.kind}: "
            "keep it in a DiskStore or a RemoteStore, as .parquet, .json or .roi.zip"
        )
    if not payload.array.size:
        return f"an image of shape {payload.array.shape} has no pixels"
    return None


class PayloadWriter(PyramidWriter):
    """Writes a payload as an image beside its place, which it takes when it is committed.

    Parameters
    ----------
    target
        Where it goes, in a folder that exists.
    payload
        An image or labels with pixels.
    version
        Of OME-Zarr.
    checksum
        Whether each chunk has a checksum.
    image
        That the labels are of and lie below; None for what stands alone.

    Raises
    ------
    LayoutError
        If the labels are not of the image's size, or there is no checksum in this version.
    NotWrittenError
        If a folder cannot be made.
    """

    def __init__(
        self,
        target: Path,
        payload: Payload,
        version: OmeVersion,
        *,
        checksum: bool,
        image: ImageReader | None = None,
    ) -> None:
        self._payload = payload
        self._image = image
        self._array = _in_order(payload)
        axes = _ome_axes(payload)
        height, width = self._array.shape[-2:]
        dtype = self._array.dtype.newbyteorder("=")
        kind = dtype.kind + str(dtype.itemsize)
        if image is not None:
            if image.shapes[0][-2:] != (height, width):
                raise LayoutError(
                    f"{target}: labels of {height} x {width} pixels are not of an image of "
                    f"{image.shapes[0][-2]} x {image.shapes[0][-1]}"
                )
            levels = [halved((height, width), level) for level in range(image.level_count)]
        elif payload.kind is Kind.IMAGE and kind in _WITHOUT_MEAN:
            levels = [(height, width)]
        else:
            levels = level_shapes(height, width, coarsest_px=_COARSEST_PX)
        super().__init__(
            target,
            version,
            shape=self._array.shape,
            levels=levels,
            dtype=dtype,
            axes=axes,
            checksum=checksum,
        )

    def _halve(self, plane: NDArray[Any], out: NDArray[Any]) -> None:
        if self._payload.kind is Kind.LABELS:
            out[...] = halve_labels(plane)
        else:
            halve_mean(plane, out)

    def write(self) -> None:
        """Write all planes, at all levels.

        Raises
        ------
        NotWrittenError
            If they cannot be written.
        """
        self._ranges: dict[int, list[tuple[float, float]]] = {}
        at = self._axes.index("c") if "c" in self._axes else None
        for index in np.ndindex(self._array.shape[:-2]):
            plane = np.ascontiguousarray(self._array[index], self._dtype)
            coarsest = self._put(index, plane)
            if self._payload.kind is Kind.IMAGE and self._dtype.kind != "b":
                self._ranges.setdefault(0 if at is None else index[at], []).extend(
                    percentiles(coarsest)
                )

    def commit(self, *, fsync: bool) -> None:
        """Put it in its place, and what stood there away.

        Raises
        ------
        NotWrittenError
            If it cannot be done; what was there before still is.
        """
        payload = self._payload
        own: dict[str, Any] = {
            # another one each time it is written, so that readers notice
            "written": secrets.token_hex(8),
            "payload": as_note(payload, dtype=payload.array.dtype),
        }
        if payload.units is not None:
            own["units"] = payload.units
        if payload.lossy:
            own["lossy"] = True
        self._finish(self._ome(), {}, own, partial=False, fsync=fsync)

    def _ome(self) -> dict[str, Any]:
        payload = self._payload
        pixel_um = payload.pixel_um or (None, None)
        scales = (*(None for _ in self._axes[:-2]), *pixel_um)
        labels = payload.kind is Kind.LABELS
        method = "nearest" if labels else "2x2 mean"
        name = payload.name or self._target.name
        origins = _first_um(payload)
        ome: dict[str, Any] = {
            "multiscales": [
                multiscale(name, self._axes, len(self._levels), scales, method, origins=origins)
            ]
        }
        if labels:
            source = {} if self._image is None else {"source": {"image": "../../"}}
            return {**ome, "image-label": source}
        if "c" in self._axes and self._dtype.kind != "b":
            count = self._shape[self._axes.index("c")]
            limits = payload.contrast_limits
            names = [str(number) for number in range(count)]
            if count == 1 and payload.channel_name:
                names = [payload.channel_name]
            meta = ImageMeta(channels=tuple(ChannelMeta(each, None, limits) for each in names))
            described = channels(meta, count, self._dtype, self._ranges)
            ome["omero"] = {"channels": described, "rdefs": {"model": "color"}}
        return ome


def read_payload(place: Place) -> Payload:
    """Read an image or a label image, whoever wrote it.

    Of what others wrote, axes of one plane are left out: they have to be there in some stores.

    Raises
    ------
    NotStoredError
        If there is none.
    UnreadableError
        If it is damaged, was not finished, is too large to be a payload, or has axes that no
        payload has.
    AccessDeniedError, UnreachableError
        If it is remote, and not to be had.
    """
    image = ImageReader(place)
    shape, axes = image.shapes[0], image.axes
    if math.prod(shape) * image.dtype.itemsize > PAYLOAD_MOST_BYTES:
        raise UnreadableError(
            f"{place} is too large to be a payload: {shape} {image.dtype}; read it plane by plane "
            "with ImageReader"
        )
    if unknown := [axis for axis in axes[:-2] if axis not in _FROM_OME]:
        raise UnreadableError(f"{place} has the axes {unknown}, which no payload has")
    own: Any = image.attributes.get("polystore") or {}
    if own.get("missing_planes") or own.get("missing_parts") or own.get("unfinished"):
        raise UnreadableError(
            f"{place} is not finished, parts of it were never written: read those that are with "
            "ImageReader"
        )
    array = np.empty(shape, image.dtype)
    for index in np.ndindex(shape[:-2]):
        array[index] = image.read(0, **dict(zip(axes, index, strict=False)))
    try:
        if (note := own.get("payload")) is not None:
            return _ours(array, axes, note, str(place))
        return _theirs(image, array)
    except PayloadError as error:
        raise UnreadableError(f"{place} is no payload: {error}") from error


def _ours(array: NDArray[Any], axes: tuple[str, ...], raw: Any, where: str) -> Payload:
    note = read_note(raw, where)
    dtype = array.dtype if note.dtype is None else note.dtype
    wanted: tuple[str, ...] = tuple(note.said.get("axes", ("y", "x")))[:-2]
    stored = [_FROM_OME[axis] for axis in axes[:-2]]
    others = [axis for axis in stored if axis not in wanted]
    alone = all(array.shape[stored.index(axis)] == 1 for axis in others)
    if dtype.newbyteorder("=") != array.dtype or not alone or not set(wanted) <= set(stored):
        raise UnreadableError(
            f"{where}: {array.dtype} {array.shape} with the axes {axes} is not what was stored: "
            f"{dtype} with {wanted}"
        )
    order = [stored.index(axis) for axis in (*others, *wanted)]
    ordered = array.transpose(*order, array.ndim - 2, array.ndim - 1)
    ordered = ordered.reshape(ordered.shape[len(others) :])
    return note.payload(np.ascontiguousarray(ordered, dtype))


def _theirs(image: ImageReader, array: NDArray[Any]) -> Payload:
    kept = [number for number, side in enumerate(array.shape[:-2]) if side > 1]
    axes = tuple(_FROM_OME[image.axes[number]] for number in kept)
    shape = (*(array.shape[number] for number in kept), *array.shape[-2:])
    said: dict[str, Any] = {}
    if image.is_labels:
        said["kind"] = Kind.LABELS
    else:
        said["lossy"] = image.lossy
        if len(image.channels) == 1:
            said["channel_name"] = image.channels[0].name
            window = image.channels[0].window
            said["contrast_limits"] = window if window and window[0] <= window[1] else None
    return Payload(
        data=array.reshape(shape),
        name=image.name or "",
        axes=(*axes, "y", "x"),
        pixel_um=image.pixel_um,
        origin_um=_corner_um(image),
        units=image.units,
        **said,
    )


def _first_um(payload: Payload) -> dict[str, float | None]:
    """Where the centre of the first pixel is: half a pixel from the corner that payloads name."""
    if payload.origin_um is None or payload.pixel_um is None:
        return {}
    (y, x), (height, width) = payload.origin_um, payload.pixel_um
    return {"y": y + height / 2, "x": x + width / 2}


def _corner_um(image: ImageReader) -> tuple[float, float] | None:
    y, x, pixel_um = image.origin_um("y"), image.origin_um("x"), image.pixel_um
    if y is None or x is None or pixel_um is None:
        return None
    return (y - pixel_um[0] / 2, x - pixel_um[1] / 2)


def _ome_axes(payload: Payload) -> tuple[str, ...]:
    there = {_TO_OME[axis] for axis in payload.axes[:-2]}
    # arrays are written plane by plane, and so have an axis that counts them
    leading = there or {"z" if payload.kind is Kind.LABELS else "c"}
    return (*(axis for axis in ("t", "c", "z") if axis in leading), "y", "x")


def _in_order(payload: Payload) -> NDArray[Any]:
    array, axes = payload.array, payload.axes[:-2]
    if not axes:
        return array[np.newaxis]
    order = [axes.index(axis) for axis in ("t", "channel", "z") if axis in axes]
    return array.transpose(*order, array.ndim - 2, array.ndim - 1)
