"""Harmony: the folders of Operetta, Opera Phenix and Sonata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._numbers import whole
from openhcs.plates._platemap_check import check_platemap
from openhcs.plates._profile import report_clamped
from openhcs.plates._wells import holds_wells, plate_size_for, sort_wells, well_name
from openhcs.plates._xml import XmlEntityError, XmlError, read_prolog
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.harmony._assay_layout import read_assay_layout
from openhcs.plates.formats.harmony._flatfield import parse_flatfield
from openhcs.plates.formats.harmony._index import HarmonyIndex, read_harmony_index
from openhcs.plates.formats.harmony._rows import IMAGE_NAME, HarmonyRows

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._platemap import Platemap
    from openhcs.plates._profile import PolynomialProfile
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["Harmony"]

_NAMES = ("index.idx.xml", "index.ref.xml", "index.xml")
_LONGEST = max(map(len, _NAMES))
_DEPTH = 3
_LARGEST = 2 << 30


class Harmony:
    """A measurement exported by Harmony: an index file beside the images."""

    name = "harmony"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for an index file; see `Format`."""
        found = _indices(listing)
        if not found:
            return Lack("no Index.idx.xml, Index.ref.xml or Index.xml, alone or in Images/")
        best = [file for file in found if _sound(listing, file)]
        if not best:
            return Lack(f"{found[0].path} is no index of Harmony")
        return Match(
            certainty=2,
            why=f"it has Harmony's index {best[0].path}",
            plates=tuple(sorted({_plate_folder(file) for file in best})),
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the measurement; see `Format`."""
        candidates = [file for file in _indices(listing) if _sound(listing, file)]
        top, index = _best_index(listing, candidates, findings)
        layouts = [file for file in listing.files if _is_layout(file, _plate_folder(top))]
        metadata = {file.path for file in (*candidates, *layouts)}
        rest = [file for file in listing.files if file.path not in metadata]
        maker = HarmonyRows(listing.root, top.folder, index, rest, findings, deep=deep)
        rows = maker.rows()
        if all(row.status == "missing" for row in rows):
            raise PlateError(
                f"{top.path} in {listing.root} lists {len(rows)} images, of which none is there; "
                "copy the images beside it"
            )
        maker.files.report_unused(IMAGE_NAME, "Harmony")
        _report_absent(index, {(row.row, row.col) for row in rows}, findings)
        size = _plate_size(index, [(row.row, row.col) for row in rows], findings)
        platemap = self._platemap(listing, layouts, findings)
        if platemap is not None:
            check_platemap(platemap, sort_wells(row.well for row in rows), size, findings)
        plate = index.plate
        return Reading(
            version=index.version,
            name=plate.get("Name") or plate.get("PlateID") or listing.root.name,
            plate_rows=size[0],
            plate_columns=size[1],
            channel_names=maker.channel_names,
            rows=rows,
            files=FileCounts(
                planes=len(maker.files.used),
                metadata=len(candidates) + len(layouts),
                named=len(rest) - len(maker.files.used),
            ),
            profiles=_profiles(index, maker, rows, top.path, findings),
            platemap=platemap,
        )

    def _platemap(
        self, listing: Listing, layouts: list[ScannedFile], findings: FindingLog
    ) -> Platemap | None:
        maps = [read_assay_layout(listing.root, file.path, findings) for file in layouts]
        return next((found for found in maps if found is not None), None)


def _indices(listing: Listing) -> list[ScannedFile]:
    """Index files, the best one first: near the top, and by the order of the names."""
    found = [
        file
        for file in listing.files
        if file.path[-_LONGEST:].lower().endswith(_NAMES)
        and file.path.count("/") <= _DEPTH
        and file.name.lower() in _NAMES
    ]
    return sorted(found, key=lambda f: (f.path.count("/"), _NAMES.index(f.name.lower()), f.path))


def _sound(listing: Listing, file: ScannedFile) -> bool:
    """Whether an index is Harmony's: ``Index.xml`` is a name that others use as well."""
    try:
        return read_prolog(listing.root / file.path).root == "EvaluationInputData"
    except XmlEntityError:
        return True  # refused by name when it is read
    except (XmlError, OSError):
        return file.name.lower() != "index.xml"


def _best_index(
    listing: Listing, candidates: list[ScannedFile], findings: FindingLog
) -> tuple[ScannedFile, HarmonyIndex]:
    """Read the first index that is whole, of those of one folder; else what there is of the first.

    What others say of images that one lacks is as good: it is written beside them.
    """
    broken: list[tuple[ScannedFile, HarmonyIndex, str]] = []
    whole: tuple[ScannedFile, HarmonyIndex] | None = None
    for file in candidates:
        if file.folder != candidates[0].folder:
            continue
        index, code = _read_index(listing, file)
        if not index.broken:
            whole = file, index
            break
        broken.append((file, index, code))
    instead = "The others are taken by their names."
    if whole is not None:
        instead = f"{whole[0].path} is read in its place."
    for file, index, code in broken:
        findings.add(
            code,
            f"{file.path} breaks after {len(index.images)} images: {index.broken}. {instead}",
            path=file.path,
        )
    return whole or broken[0][:2]


def _read_index(listing: Listing, file: ScannedFile) -> tuple[HarmonyIndex, str]:
    """Read an index as far as it can be, and give the code of what broke it; empty for none."""
    index = HarmonyIndex()
    if file.size > _LARGEST:
        index.broken = f"it has {file.size} bytes, which is too large"
        return index, "TOO_LARGE"
    try:
        index = read_harmony_index(listing.root / file.path)
    except XmlEntityError as error:
        index.broken = str(error)
        return index, "XML_ENTITY"
    except OSError as error:
        index.broken = error.strerror or str(error)
    return index, "METADATA_UNREADABLE" if index.broken else ""


def _profiles(
    index: HarmonyIndex, maker: HarmonyRows, rows: list[Row], path: str, findings: FindingLog
) -> dict[int, PolynomialProfile]:
    profiles: dict[int, PolynomialProfile] = {}
    shapes = {row.channel: (row.height, row.width) for row in reversed(rows) if row.height > 0}
    for channel_id, text in index.profiles.items():
        channel = maker.channel_numbers.get(channel_id)
        if channel is None:
            continue
        try:
            profile = parse_flatfield(text)
        except ValueError as error:
            findings.add(
                "FLATFIELD_UNREADABLE",
                f"The flat-field profile of channel {channel_id} was not understood: {error}.",
                channel=channel,
                path=path,
            )
            continue
        if profile is None:
            continue
        profiles[channel] = profile
        if channel in shapes:
            height, width = shapes[channel]
            clamped = profile.clamped_pixels((height, width))
            name = maker.channel_names[channel]
            report_clamped(clamped, height * width, channel, name, path, findings)
    return profiles


def _plate_size(
    index: HarmonyIndex, wells: list[tuple[int, int]], findings: FindingLog
) -> tuple[int, int]:
    size = whole(index.plate.get("PlateRows")) or 0, whole(index.plate.get("PlateColumns")) or 0
    if holds_wells(*size, wells):
        return size
    size = plate_size_for(wells)
    findings.add(
        "PLATE_SIZE_ASSUMED",
        f"The index states no size that holds all wells; {size[0]} x {size[1]} does.",
    )
    return size


def _report_absent(
    index: HarmonyIndex, present: set[tuple[int, int]], findings: FindingLog
) -> None:
    """Name the wells that were to be measured and have no image."""
    absent = sorted(set(index.wells) - present)
    if absent and not index.broken:
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The index names {len(set(index.wells))} wells; {len(absent)} of them have no image: "
            f"{some((well_name(*place) for place in absent), 12)}.",
        )


def _is_layout(file: ScannedFile, plate: str) -> bool:
    if not file.path[-4:].lower().endswith(".xml"):
        return False
    parent, _, folder = file.folder.rpartition("/")
    return folder.lower() == "assaylayout" and parent == plate


def _plate_folder(file: ScannedFile) -> str:
    parent, _, folder = file.folder.rpartition("/")
    return parent if folder.lower() == "images" else file.folder
