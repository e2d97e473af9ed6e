"""Uneven illumination: learned from a plate or given by its vendor, and taken out of planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from openhcs.functions._convert import to_dtype
from openhcs.functions._dark_level import DARK_SOURCES, FEWEST_FIELDS, DarkLevel, dark_under
from openhcs.functions._finite import finite
from openhcs.functions._profile_file import read_profile
from openhcs.functions._quantities import (  # noqa: TC001  # annotations are read when compiling
    Counts,
    FileName,
)
from openhcs.functions._registry import Axes, Kind, Output, Prepared, function
from openhcs.functions._scale import enlarge, reduce_mean
from openhcs.functions._shading import fit_shading

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from openhcs.functions._inputs import PlaneArray

__all__ = ["CorrectedPlane", "Illumination", "Source", "correct_illumination"]

Source: TypeAlias = Literal["auto", "vendor", "estimate", "file", "none"]

_WANTED = 64
"""Fields to learn from, where a plate has them."""
_SURE = 50
"""Fewer fields than these give a profile of low confidence."""
_LEAST = FEWEST_FIELDS
"""Fewer fields than these give none."""
_REDUCED_PX = 128
_DIMMEST = 0.05
_TAIL = 0.02
"""Share of the darkest pixels that a field hands on, of which the dark level is a quantile."""
_FOUND = ("none", "vendor", "estimate", "file")
_CONFIDENCES = ("none", "low", "high", "vendor")
_BAND_PX = 65536
"""Pixels worked on at a time, so that they stay in the processor's cache."""


class Illumination:
    """What `correct_illumination` learns from a plate, for one channel.

    The profile is the vendor's where there is one; otherwise that with which the background, and
    what lies on it, is spread alike at every place of the field, over many fields. The dark level
    is the one that is given, else the vendor's, else the one with which bright and dim parts agree
    on the profile.

    Notes
    -----
    64 fields of 1080 by 1080 px take 2 s besides their reading, 0.5 s where the dark level is
    given, and 90 KB each. `openhcs.functions._shading` has the method.
    """

    def wanted(
        self,
        parameters: Mapping[str, Any],
        *,
        vendor: bool,
        vendor_dark: float | None = None,
        available: int,
    ) -> int:
        """Say how many fields of a channel to summarise.

        Parameters
        ----------
        parameters
            Of `correct_illumination`: ``source`` and ``dark``.
        vendor
            Whether the plate brings a profile of its own for this channel.
        vendor_dark
            Counts of a pixel that sees no light, where the plate tells them.
        available
            How many fields the plate has for this channel.

        Raises
        ------
        ValueError
            If the source that is asked for cannot be had from this plate.
        """
        source: Source = parameters["source"]
        if source not in ("auto", "vendor", "estimate", "file", "none"):
            message = (
                f"source is {source!r}, expected 'auto', 'vendor', 'estimate', 'file' or 'none'"
            )
            raise ValueError(message)
        if (source == "file") != (parameters.get("profile") is not None):
            raise ValueError("source='file' and profile= belong together: give both or none")
        if source == "vendor" and not vendor:
            raise ValueError(_NO_VENDOR)
        if source == "estimate" and available < _LEAST:
            raise ValueError(_too_few(available))
        if source in ("file", "none"):
            return 0
        if vendor and source != "estimate":
            known = parameters["dark"] is not None or vendor_dark is not None
            return 0 if known or available < _LEAST else min(available, _WANTED)
        return min(available, _WANTED) if available >= _LEAST else 0

    def reads(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the saved profile, if one is used."""
        profile = parameters.get("profile")
        return (profile,) if profile is not None else ()

    def summarise(
        self,
        plane: NDArray[Any],
        parameters: Mapping[str, Any],  # noqa: ARG002  # the protocol's
    ) -> Mapping[str, NDArray[Any]]:
        """Reduce a plane to block means, and the darkest of its pixels.

        Returns
        -------
        Mapping
            ``means``, at most 128 by 128, float32; ``darkest``, ascending, float32; ``sampled``,
            how many pixels those are the darkest of. Pixels that are not finite count as the
            median of the others; where there are none, nothing is there and ``sampled`` is 0.
        """
        if plane.dtype.kind == "f" and not np.isfinite(plane).any():
            nothing = np.zeros(0, np.float32)
            return {"means": nothing, "darkest": nothing, "sampled": np.asarray(0)}
        plane = finite(plane)
        sample = plane[::2, ::2].ravel()
        tail = max(1, int(_TAIL * sample.size))
        darkest = np.sort(np.partition(sample, tail - 1)[:tail]).astype(np.float32)
        return {
            "means": reduce_mean(plane, (_REDUCED_PX, _REDUCED_PX)),
            "darkest": darkest,
            "sampled": np.asarray(sample.size),
        }

    def combine(
        self,
        summaries: Sequence[Mapping[str, NDArray[Any]]],
        parameters: Mapping[str, Any],
        *,
        shape: tuple[int, int],
        vendor: NDArray[Any] | None,
        vendor_dark: float | None = None,
    ) -> Prepared:
        """Make the profile and dark level of one channel.

        Parameters
        ----------
        summaries
            What `summarise` gave for each field.
        parameters
            Of `correct_illumination`.
        shape
            (y, x) of the channel's planes.
        vendor
            The plate's own profile, shape (y, x); None when there is none.
        vendor_dark
            The plate's own dark level, counts; None when there is none.

        Raises
        ------
        ValueError
            If the source that is asked for cannot be had.
        """
        # Fields without a single finite pixel are none to learn from.
        summaries = [summary for summary in summaries if int(summary["sampled"])]
        source: Source = parameters["source"]
        given: float | None = parameters["dark"]
        if source == "file":
            return _from_file(str(parameters["profile"]), given, shape)
        known = vendor_dark if given is None else given
        told = "vendor" if given is None else "given"
        if source == "vendor" and vendor is None:
            raise ValueError(_NO_VENDOR)
        if source == "estimate" and len(summaries) < _LEAST:
            raise ValueError(_too_few(len(summaries)))
        if vendor is not None and source in ("auto", "vendor"):
            if vendor.shape != shape:
                message = f"the vendor's profile is {vendor.shape} px, the planes are {shape} px"
                raise ValueError(message)
            flat = np.asarray(vendor, dtype=np.float32)
            if known is not None:
                dark = DarkLevel(float(known), told)
            else:
                dark = dark_under(flat, summaries)
            untold = known is None and len(summaries) < _LEAST
            why = _DARK_UNTOLD if untold else ""
            return _prepared("vendor", flat, dark, len(summaries), "vendor", why)
        if source == "none" or len(summaries) < _LEAST:
            why = "not asked for" if source == "none" else _TOO_FEW
            return _prepared("none", None, DarkLevel(0.0, "none"), len(summaries), "none", why)
        means = np.stack([summary["means"] for summary in summaries])
        found = fit_shading(means, dark=known)
        if known is None:
            told = "estimate" if math.isfinite(found.dark_error) else "assumed"
        flat = enlarge(found.profile, shape)
        flat /= flat.mean(dtype=np.float64)
        sure = len(summaries) >= _SURE and math.isfinite(found.dark_error)
        why = "" if math.isfinite(found.dark_error) else _DARK_UNKNOWN
        return _prepared(
            "estimate",
            np.maximum(flat, np.float32(_DIMMEST), out=flat),
            DarkLevel(found.dark, told),
            len(summaries),
            "high" if sure else "low",
            why,
        )


_NO_VENDOR = (
    "this plate brings no illumination profile for the channel; "
    "use source='estimate', or source='auto' to take what there is"
)

_DARK_UNKNOWN = (
    "nothing bright enough tells the dark level, which is taken to be 0: corners are evened less "
    "than they might be; give dark= where it is known"
)
_DARK_UNTOLD = (
    f"fewer than {_LEAST} fields to tell the dark level from, which is taken to be 0; "
    "give dark= where it is known"
)
_TOO_FEW = f"no vendor profile, and fewer than {_LEAST} fields to estimate one from"


def _too_few(fields: int) -> str:
    return (
        f"{fields} fields are too few to estimate the illumination from, which takes {_LEAST} "
        f"or more ({_SURE} to be sure); use source='none', or give more wells"
    )


def _from_file(path: str, dark: float | None, shape: tuple[int, int]) -> Prepared:
    saved = read_profile(path)
    if saved.flat.shape != shape:
        message = f"the profile in {path} is {saved.flat.shape} px, the planes are {shape} px"
        raise ValueError(message)
    told = saved.provenance
    confidence, fields = str(told.get("confidence")), told.get("fields")
    found = _prepared(
        "file",
        saved.flat,
        DarkLevel(saved.dark, "file") if dark is None else DarkLevel(dark, "given"),
        fields if isinstance(fields, int) else 0,
        confidence if confidence in _CONFIDENCES else "low",
    )
    return Prepared(found.arrays, {**found.note, "profile": path, "provenance": dict(told)})


def _prepared(
    source: str,
    flat: NDArray[np.float32] | None,
    dark: DarkLevel,
    fields: int,
    confidence: str,
    why: str = "",
) -> Prepared:
    arrays: dict[str, NDArray[Any]] = {
        "source": np.asarray(_FOUND.index(source), dtype=np.uint8),
        "fields": np.asarray(fields, dtype=np.int64),
        "dark": np.asarray(dark.counts, dtype=np.float32),
        "dark_source": np.asarray(DARK_SOURCES.index(dark.source), dtype=np.uint8),
        "confidence": np.asarray(_CONFIDENCES.index(confidence), dtype=np.uint8),
    }
    note: dict[str, Any] = {"source": source, "confidence": confidence, "fields": fields}
    note["dark"], note["dark_source"] = dark.counts, dark.source
    if flat is not None:
        arrays["flat"] = flat
        note["flat_min"], note["flat_max"] = float(flat.min()), float(flat.max())
    if why:
        note["why"] = why
    return Prepared(arrays, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectedPlane:
    """What `correct_illumination` gives.

    Attributes
    ----------
    image
        Shape (y, x), the pixel type of the plane.
    illumination
        ``source`` (``vendor``, ``estimate``, ``file`` or ``none``), ``confidence`` (``vendor``,
        ``high``, ``low`` or ``none``), ``fields`` learned from, ``dark`` in counts,
        ``dark_source`` (``given``, ``vendor``, ``estimate``, ``file``, ``assumed`` to be 0 where
        nothing tells it, or ``none`` where nothing is corrected), and ``clipped_px``.
    """

    image: PlaneArray
    illumination: Mapping[str, float | int | str]


@function(
    axes=Axes.PLANE,
    outputs=(Output("image", Kind.IMAGE), Output("illumination", Kind.RECORD)),
    preparation=Illumination(),
    version=4,
)
def correct_illumination(
    plane: PlaneArray,
    *,
    prepared: Mapping[str, NDArray[Any]],
    source: Source = "auto",
    dark: Counts | None = None,
    profile: FileName | None = None,
) -> CorrectedPlane:
    """Take the dark level and uneven illumination out of a plane.

    Parameters
    ----------
    plane
        Shape (y, x), integers or floats.
    prepared
        What `Illumination` found for the channel.
    source
        Where the profile comes from: ``vendor``, an ``estimate`` over the fields of the plate, or
        ``none``; ``auto`` takes the vendor's, else an estimate from 10 fields or more, else none.
        ``file`` takes one that was saved, for the channel of this step alone.
    dark
        Counts of a pixel that sees no light, 0 or more; None to take the vendor's: the mean of
        its dark image, or 0 where it stores a polynomial profile. Where the vendor says nothing,
        it is estimated together with the profile, or 0 where the vendor's is flat or the plate has
        fewer than 10 fields. Give it where it is known: few cells on much background tell little
        of it.
    profile
        File that `save_illumination` or `write_profile` wrote, for ``source="file"``. Its dark
        level is used unless another is given.

    Raises
    ------
    ValueError
        If the profile is of another shape than the plane.

    Notes
    -----
    ``(plane - dark) / flat`` in float32, rounded half to even and clipped to the pixel type. The
    brightness of the middle of the field rises or falls by one factor for the whole plate, so
    wells keep their ratios.
    """
    del source, dark, profile  # used by the preparation
    found = _FOUND[int(prepared["source"])] if "source" in prepared else "none"
    flat = prepared.get("flat")
    fields = int(prepared["fields"]) if flat is not None else 0
    level = float(prepared["dark"]) if flat is not None else 0.0
    dark_source = DARK_SOURCES[int(prepared["dark_source"])] if flat is not None else "none"
    clipped = 0
    image = plane
    if flat is not None:
        if flat.shape != plane.shape:
            message = f"the illumination profile is {flat.shape} px, the plane is {plane.shape} px"
            raise ValueError(message)
        image, clipped = _apply(plane, flat, level)
    return CorrectedPlane(
        image=image,
        illumination={
            "source": found,
            "confidence": _CONFIDENCES[int(prepared["confidence"])] if flat is not None else "none",
            "fields": fields,
            "dark": level,
            "dark_source": dark_source,
            "clipped_px": clipped,
        },
    )


def _apply(plane: PlaneArray, flat: NDArray[Any], dark: float) -> tuple[PlaneArray, int]:
    corrected = np.empty_like(plane)
    rows = max(1, _BAND_PX // max(1, plane.shape[1]))
    clipped = 0
    band = np.empty((rows, plane.shape[1]), dtype=np.float32)
    for start in range(0, plane.shape[0], rows):
        piece = plane[start : start + rows]
        work = band[: len(piece)]
        np.subtract(piece, np.float32(dark), out=work, dtype=np.float32, casting="same_kind")
        np.divide(work, flat[start : start + rows], out=work)
        converted = to_dtype(work, plane.dtype)
        corrected[start : start + rows] = converted.pixels
        clipped += converted.clipped_px
    return corrected, clipped
