"""What the images of an OME-Zarr plate say about themselves; of pixels nothing is read."""

from __future__ import annotations

import importlib.util
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from openhcs.plates._zarr_planes import Member, OwnAttributes, members, own_attributes
from openhcs.plates.formats.ome_zarr._plate import THREADS
from polystore import NotStoredError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from polystore.omezarr import ImageReader

_CHUNK = 64
_LONGEST = (1 << 31) - 1
"""Pixels along a side; no image has more."""
_COMMON = frozenset(
    {"blosc", "bytes", "crc32c", "gzip", "sharding_indexed", "transpose", "zlib", "zstd"}
)
"""Codecs that zarr brings with it: to ask whether they are there, it need not be imported."""

__all__ = ["ImageFacts", "ImageFault", "read_images"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """An image that can be read.

    Parameters
    ----------
    array
        Path of the array of its finest level, from the image's group on.
    size, dtype
        Height and width, and element type, of its planes.
    pages
        Page of each plane that is data.
    missing
        Planes that were to be written and never were.
    pixel_um, step_um, interval_s
        Size of a pixel (y, x), distance of planes and of time points; None when unknown.
    origin_um
        Centre of the first pixel (z, y, x); None for each that is unknown.
    channel_names
        As far as there are any.
    codecs
        What its chunks went through.
    own
        What openhcs says about it.
    """

    array: str
    size: tuple[int, int]
    dtype: str
    pages: Mapping[Member, int]
    missing: frozenset[Member]
    pixel_um: tuple[float, float] | None
    step_um: float | None
    interval_s: float | None
    origin_um: tuple[float | None, float | None, float | None]
    channel_names: tuple[str, ...]
    codecs: tuple[str, ...]
    own: OwnAttributes


@dataclass(frozen=True, slots=True)
class ImageFault:
    """An image that cannot be read.

    Parameters
    ----------
    why
        One clause.
    absent
        Whether it is not there at all.
    """

    why: str
    absent: bool = False


def read_images(root: Path, paths: Sequence[str]) -> dict[str, ImageFacts | ImageFault]:
    """Read the documents of images.

    Parameters
    ----------
    root
        The listed folder.
    paths
        Of the images' groups, from there on.

    Returns
    -------
    dict
        By path, what each image is, or why it cannot be read.

    Notes
    -----
    Two documents each. Whether a codec is installed is asked once for each combination of codecs.
    Where the first images show that a document is waited for, several are read at once; on a disk
    that is close by, threads would only stand in each other's way.
    """
    waits = _Waiting()
    found = {path: _read(root / path) for path in paths[:_CHUNK]}
    others = paths[_CHUNK:]
    if others and waits.mostly():
        chunks = [others[start : start + _CHUNK] for start in range(0, len(others), _CHUNK)]
        with ThreadPoolExecutor(THREADS, "openhcs-images") as pool:
            parts = pool.map(lambda chunk: [_read(root / path) for path in chunk], chunks)
            found.update(zip(others, (each for part in parts for each in part), strict=True))
    else:
        found.update((path, _read(root / path)) for path in others)
    first: dict[tuple[str, ...], str] = {}
    for path, facts in found.items():
        if isinstance(facts, ImageFacts):
            first.setdefault(facts.codecs, path)
    lacking = {codecs: _try_codecs(root / path) for codecs, path in first.items()}
    for path, facts in found.items():
        if isinstance(facts, ImageFacts) and lacking[facts.codecs]:
            found[path] = ImageFault(lacking[facts.codecs])
    return found


class _Waiting:
    """Tells whether the time since it was made went by with waiting."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), time.thread_time()

    def mostly(self) -> bool:
        """Say whether this thread worked for less than half of the time."""
        passed = time.perf_counter() - self._began
        return time.thread_time() - self._worked < passed / 2


def _read(path: Path) -> ImageFacts | ImageFault:
    from polystore.omezarr import ImageReader

    try:
        reader = ImageReader(path)
    except NotStoredError:
        return ImageFault("there is no group", absent=True)
    except (StorageError, OSError) as error:
        return ImageFault(str(error))
    try:
        return _facts(reader)
    except NotStoredError:
        return ImageFault("the array of its finest level is not there", absent=True)
    except (StorageError, OSError, ValueError) as error:
        return ImageFault(str(error))


def _facts(reader: ImageReader) -> ImageFacts:
    if reader.is_labels:
        raise ValueError("it is a label image, which is no image of a well")
    own = own_attributes(reader.attributes)
    known = {
        member: page
        for page, member in enumerate(members(reader))
        if own.valid is None or member in own.valid
    }
    height, width = reader.shape[-2:]
    if max(height, width) > _LONGEST:
        raise ValueError(f"its planes have {height} x {width} pixels by its metadata")
    return ImageFacts(
        array=reader.level_path(0).relative_to(reader.path).as_posix(),
        size=(height, width),
        dtype=reader.dtype.name,
        pages=known,
        missing=_missing(reader) & known.keys(),
        pixel_um=reader.pixel_um,
        step_um=reader.z_um,
        interval_s=reader.t_s,
        origin_um=(reader.origin_um("z"), reader.origin_um("y"), reader.origin_um("x")),
        channel_names=reader.channel_names,
        codecs=reader.codecs,
        own=own,
    )


def _missing(reader: ImageReader) -> frozenset[Member]:
    def member(place: tuple[int, ...]) -> Member:
        at: dict[str, Any] = dict(zip(reader.axes, place, strict=False))
        return Member(at.get("t", 0), at.get("c", 0), at.get("z", 0))

    return frozenset(member(place) for place in reader.missing_planes)


def _try_codecs(path: Path) -> str:
    """Say why an image cannot be decoded on this computer; empty when it can."""
    from polystore.omezarr import ImageReader

    try:
        reader = ImageReader(path)
        if _COMMON.issuperset(reader.codecs) and importlib.util.find_spec("zarr") is not None:
            return ""
        reader.read(0, region=(slice(0, 0), slice(0, 0)))
    except (StorageError, OSError, ImportError) as error:
        names = ", ".join(reader.codecs)
        return f"its chunks went through {names}, not all of which can be undone here: {error}"
    return ""
