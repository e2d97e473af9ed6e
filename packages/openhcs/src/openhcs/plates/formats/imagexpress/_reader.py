"""ImageXpress: MetaXpress exports, which have an ``.HTD`` file, and database folders."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from typing import TYPE_CHECKING

from openhcs._errors import PlateError
from openhcs.plates._facts import FileCounts
from openhcs.plates._findings import some
from openhcs.plates._headers import read_headers
from openhcs.plates._tiff import TiffHeader
from openhcs.plates._wells import plate_size_for, sort_wells
from openhcs.plates.formats._protocol import Lack, Match, Reading, Verdict
from openhcs.plates.formats.imagexpress._names import ImageFile, parse_image_file, split_folder
from openhcs.plates.formats.imagexpress._plan import HtdPlan, parse_htd
from openhcs.plates.formats.imagexpress._rows import RowMaker

if TYPE_CHECKING:
    from openhcs.plates._findings import FindingLog
    from openhcs.plates._rows import Row
    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["ImageXpressDatabase", "ImageXpressExport"]

_DEPTH = 3
_TRIES = 8
_LARGEST_PLAN = 16 << 20
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class ImageXpressExport:
    """A plate exported by MetaXpress: an ``.HTD`` file beside the images or their folders."""

    name = "imagexpress"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for an ``.HTD`` file; see `Format`."""
        plans = [file for file in listing.files if _is_plan(file)]
        plates = sorted({split_folder(file.folder)[0] for file in plans})
        plates = [plate for plate in plates if _depth(plate) <= _DEPTH]
        if not plates:
            return Lack("no .HTD file in the folder or up to three levels below it")
        top = min(plans, key=lambda file: (file.path.count("/"), file.path))
        return Match(certainty=2, why=f"it has the plan {top.path}", plates=tuple(plates))

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        return _read(listing, findings, deep=deep, export=True)


class ImageXpressDatabase:
    """A plate in the folders of the MetaXpress database: names that end in an identifier."""

    name = "imagexpress-database"

    def sniff(self, listing: Listing) -> Verdict:
        """Look for names that fit and for the tag that MetaXpress writes; see `Format`."""
        pictures, thumbnails = _one_per_folder(listing)
        if not pictures:
            only = " but thumbnails" if thumbnails else ""
            return Lack(f"no TIFF file{only} named like NAME_B02_s1_w1GUID.tif")
        tagged = self._tagged(listing, pictures)
        if tagged is None:
            return Lack(
                f"TIFF files are named as they should be, such as {pictures[0].file.path}, but "
                "their tag 305 is not MetaSeries"
            )
        plates = sorted({_plate_folder(image.base) for image in pictures})
        return Match(
            certainty=1,
            why=f"{tagged} is named and tagged as MetaXpress does, and there is no .HTD file",
            plates=tuple(plates),
        )

    def read(self, listing: Listing, findings: FindingLog, *, deep: bool) -> Reading:
        """Index the plate; see `Format`."""
        return _read(listing, findings, deep=deep, export=False)

    def _tagged(self, listing: Listing, pictures: list[ImageFile]) -> str | None:
        """Give a file that has the tag; where all that were tried are damaged, others are."""
        first = [image.file for image in pictures][:_TRIES]
        known = {file.path for file in first}
        others = (f for f in listing.files if f.path not in known and _is_picture(f))
        for _ in range(_TRIES):
            tried = first or list(itertools.islice(others, _TRIES))
            first = []
            headers = read_headers(listing.root, tried)
            sound = {path: h for path, h in headers.items() if isinstance(h, TiffHeader)}
            if sound or not tried:
                return next((p for p, h in sound.items() if h.software == "MetaSeries"), None)
        return None


def _is_picture(file: ScannedFile) -> bool:
    image = parse_image_file(file) if file.size > 0 else None
    return image is not None and not image.thumbnail


def _one_per_folder(listing: Listing) -> tuple[list[ImageFile], int]:
    """Take one image that is not empty of every folder; count the thumbnails passed by."""
    found: dict[str, ImageFile] = {}
    thumbnails = 0
    for file in listing.files:
        if file.size > 0 and file.folder not in found:
            image = parse_image_file(file)
            if image is not None and image.thumbnail:
                thumbnails += 1
            elif image is not None:
                found[file.folder] = image
    return list(found.values()), thumbnails


def _read(listing: Listing, findings: FindingLog, *, deep: bool, export: bool) -> Reading:
    plan_files = [file for file in listing.files if _is_plan(file)]
    images: list[ImageFile] = []
    unmatched: list[ScannedFile] = []
    thumbnails = 0
    for file in listing.files:
        if _is_plan(file):
            continue
        image = parse_image_file(file)
        if image is None:
            unmatched.append(file)
        elif image.thumbnail:
            thumbnails += 1
        else:
            images.append(image)
    plan, base, plan_name = _plan(listing, plan_files, images, findings)
    if export and plan_files:
        unmatched += [image.file for image in images if image.base != base]
        images = [image for image in images if image.base == base]
    off = [image.file.path for image in images if plan is not None and not _is_on(plan, image)]
    if plan is not None and off:
        images = [image for image in images if _is_on(plan, image)]
        said = (
            f"{len(off)} files are named as images of wells that a plate of {plan.rows} x "
            f"{plan.columns}, as the plan says, does not have: {some(off)}"
        )
        if not images:
            raise PlateError(f"{listing.root} has no image that can be indexed: {said}")
        findings.add("UNMATCHED_NAME", f"{said}.", path=off[0])
    if unmatched:
        findings.add(
            "UNMATCHED_NAME",
            f"{len(unmatched)} files are not named as images of this plate are: "
            f"{some(file.path for file in unmatched)}.",
            path=unmatched[0].path,
        )
    if thumbnails:
        findings.add("THUMBNAIL_SKIPPED", f"{thumbnails} thumbnails were left out.")
    if not images:
        raise PlateError(
            f"{listing.root} has no image that can be indexed; its names should be like "
            "NAME_B02_s1_w1.TIF"
        )
    maker = RowMaker(listing.root, images, plan.wave_names if plan else (), findings, deep=deep)
    rows = maker.rows()
    if plan is not None:
        size = plan.rows, plan.columns
        _compare(plan, rows, findings)
    else:
        size = plate_size_for((row.row, row.col) for row in rows)
        findings.add(
            "PLATE_SIZE_ASSUMED",
            f"Nothing states the size of the plate; {size[0]} x {size[1]} holds all its wells.",
        )
    return Reading(
        version="HTD 1.0" if plan is not None else "",
        name=plan_name or images[0].name or listing.root.name,
        plate_rows=size[0],
        plate_columns=size[1],
        channel_names=maker.channel_names,
        rows=rows,
        files=FileCounts(
            planes=len(images),
            metadata=len(plan_files),
            thumbnails=thumbnails,
            named=len(unmatched) + len(off),
        ),
    )


def _plan(
    listing: Listing, files: list[ScannedFile], images: list[ImageFile], findings: FindingLog
) -> tuple[HtdPlan | None, str, str]:
    """Read the plan, compare its copies; give it with its folder and name."""
    if not files:
        return None, "", ""
    prefixes = {image.name for image in images}
    ordered = sorted(files, key=lambda f: (_depth(f.folder), _stem(f) not in prefixes, f.path))
    top = ordered[0]
    base = split_folder(top.folder)[0]
    raw = _bytes_of(listing, top, findings)
    plan: HtdPlan | None = None
    if raw is not None:
        try:
            plan = parse_htd(raw)
        except ValueError as error:
            findings.add(
                "METADATA_UNREADABLE", f"{top.path} is not a plan: {error}.", path=top.path
            )
    if plan is not None and not plan.is_whole:
        findings.add(
            "METADATA_UNREADABLE",
            f"{top.path} breaks off before its EndFile; what it says up to there is used.",
            path=top.path,
        )
    different = [
        other.path
        for other in ordered[1:]
        if other.size != top.size or _bytes_of(listing, other, findings) != raw
    ]
    if different:
        findings.add(
            "METADATA_CONFLICT",
            f"{some(different)} {'differs' if len(different) == 1 else 'differ'} from {top.path}, "
            "which is used.",
            path=different[0],
        )
    return plan, base, _stem(top)


def _bytes_of(listing: Listing, file: ScannedFile, findings: FindingLog) -> bytes | None:
    if file.size > _LARGEST_PLAN:
        findings.add("TOO_LARGE", f"{file.path} is too large for a plan.", path=file.path)
        return None
    try:
        return (listing.root / file.path).read_bytes()
    except OSError as error:
        findings.add(
            "METADATA_UNREADABLE", f"{file.path} cannot be read: {error.strerror}.", path=file.path
        )
        return None


def _compare(plan: HtdPlan, rows: list[Row], findings: FindingLog) -> None:
    """Name what the plan says and the folder does not have, by dimension."""
    there: dict[str, set[str | int]] = defaultdict(set)
    for row in rows:
        if row.status == "missing":
            continue
        there["wells"].add(row.well)
        there["sites"].add(row.field_id)
        there["wavelengths"].add(row.channel_id)
        there["time points"].add(row.t_id)
        if row.kind == "plane" and row.status != "duplicate-content":
            there["z steps"].add(row.z_id)
    planned = {
        "sites": plan.sites,
        "wavelengths": len(plan.wave_names),
        "time points": plan.time_points,
        "z steps": plan.z_steps if there["z steps"] else 0,
    }
    absent = sort_wells(set(plan.wells) - {str(well) for well in there["wells"]})
    if absent:
        findings.add(
            "PARTIAL_ACQUISITION",
            f"The plan names {len(plan.wells)} wells; {len(absent)} of them have no image: "
            f"{some(absent, 12)}.",
        )
    for dimension, count in planned.items():
        if len(there[dimension]) < count:
            findings.add(
                "PARTIAL_ACQUISITION",
                f"The plan names {count} {dimension}; there are {len(there[dimension])}.",
            )


def _is_plan(file: ScannedFile) -> bool:
    return file.path[-4:].lower() == ".htd"


def _is_on(plan: HtdPlan, image: ImageFile) -> bool:
    return image.row < plan.rows and image.col < plan.columns


def _stem(file: ScannedFile) -> str:
    return file.name[:-4]


def _depth(folder: str) -> int:
    return folder.count("/") + 1 if folder else 0


def _plate_folder(base: str) -> str:
    """Take off the folders of date and number that the database puts below that of the plate."""
    parts = base.split("/") if base else []
    if len(parts) >= 2 and _DATE.fullmatch(parts[-2]):
        return "/".join(parts[:-2])
    if len(parts) == 1 and parts[0].isdigit():
        return ""
    return base
