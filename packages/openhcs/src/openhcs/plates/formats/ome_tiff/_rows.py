"""Rows of an OME-TIFF plate: what its documents place in wells, joined with the files."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.plates._channels import number_channels
from openhcs.plates._findings import some
from openhcs.plates._listed import ListedImages
from openhcs.plates._plane import PlaneStatus
from openhcs.plates._positions import forget_common_places
from openhcs.plates._rows import Row, usual_members
from openhcs.plates._wells import well_name
from openhcs.plates.formats.ome_tiff._planes import claims_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from openhcs.plates._findings import FindingLog
    from openhcs.plates._scan import ScannedFile
    from openhcs.plates.formats.ome_tiff._planes import Claim
    from openhcs.plates.formats.ome_tiff._sources import Source, Sources
    from openhcs.plates.formats.ome_tiff._xml import OmeImage, OmePlate, OmeSample

__all__ = ["OmeRows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Field:
    """A sample of a well, with the document that says most of it."""

    row: int
    col: int
    acquisition: int
    order: tuple[int, int]
    sample: OmeSample
    source: Source
    image: OmeImage | None

    @property
    def well(self) -> str:
        return well_name(self.row, self.col)


class OmeRows:
    """Makes the rows of a plate.

    Parameters
    ----------
    sources
        The documents' files.
    listed
        The documents.
    files
        All files that hold no metadata alone.
    findings
        Takes what is odd.
    deep
        Whether to open the header of every image.
    """

    def __init__(
        self,
        sources: Sources,
        listed: Sequence[Source],
        files: Sequence[ScannedFile],
        findings: FindingLog,
        *,
        deep: bool,
    ) -> None:
        self._sources = sources
        self._findings = findings
        self._unnamed = 0
        self.files = ListedImages(sources.listing.root, files, findings, deep=deep)
        """Which files have a row."""
        self._fields = list(_fields(listed, findings))
        self._channels, self.channel_names = number_channels(
            {
                (id(field.source), field.image.id): (
                    field.image.sizes[0],
                    [name for name, _, _ in field.image.channels],
                )
                for field in self._fields
                if field.image is not None
            }
        )

    @property
    def wells(self) -> set[tuple[int, int]]:
        """Rows and columns of all wells with a field."""
        return {(field.row, field.col) for field in self._fields}

    def rows(self) -> list[Row]:
        """Make the rows.

        Returns
        -------
        list
            One for each plane that a document places in a file; of a field whose image no
            document describes, as many as most fields have.
        """
        rows: list[Row] = []
        lost: list[tuple[_Field, int]] = []
        for number, field in _numbered(self._fields):
            if field.image is not None:
                rows += self._of_image(field, field.image, number)
            elif field.sample.image:
                lost.append((field, number))
        rows += self._of_lost(rows, lost)
        forget_common_places(rows)
        self._sources.report()
        if self._unnamed:
            self._findings.add(
                "PARTIAL_ACQUISITION",
                f"{self._unnamed} planes that images have by their size are in no file.",
            )
        self.files.check(rows, self.channel_names)
        return rows

    def _of_image(self, field: _Field, image: OmeImage, number: int) -> Iterator[Row]:
        source = field.source
        numbers = self._channels[id(source), image.id]
        claims = claims_of(image, lambda file, uuid: self._sources.directories(source, file, uuid))
        planes = image.sizes[0] * image.sizes[1] * image.sizes[2]
        self._unnamed += planes - len({(claim.c, claim.z, claim.t) for claim in claims})
        for claim in claims:
            row = self._row(field, number, numbers[claim.c], z=claim.z, t=claim.t)
            row.channel_id = str(claim.c)
            _describe(row, claim, field.sample, image)
            name = self._sources.name_of(source, claim.file, claim.uuid)
            self.files.join(row, source.file.folder, name)
            row.page = claim.ifd
            yield row

    def _of_lost(self, rows: Sequence[Row], lost: Sequence[tuple[_Field, int]]) -> Iterator[Row]:
        usual = usual_members(rows)
        for field, number in lost:
            for channel, z, t in usual.get(field.acquisition, ((0, 0, 0),)):
                row = self._row(field, number, channel, z=z, t=t)
                row.status = PlaneStatus.UNREADABLE.value
                yield row
        whole = [field for field, _ in lost if not field.source.document.broken]
        if whole:
            self._findings.add(
                "METADATA_INVALID",
                f"{len(whole)} fields refer to images that the metadata do not describe: "
                f"{some(f'{field.sample.image} in well {field.well}' for field in whole)}.",
                well=whole[0].well if len(whole) == 1 else None,
                path=whole[0].source.file.path,
            )

    def _row(self, field: _Field, number: int, channel: int, *, z: int, t: int) -> Row:
        return Row(
            well=field.well,
            row=field.row,
            col=field.col,
            field=number,
            channel=channel,
            z=z,
            t=t,
            acquisition=field.acquisition,
            channel_name=self.channel_names[channel] if self.channel_names else "",
            field_id=field.sample.id,
            z_id=str(z),
            t_id=str(t),
        )


def _describe(row: Row, claim: Claim, sample: OmeSample, image: OmeImage) -> None:
    """Complete a row by what is said of its plane, its image and its sample."""
    row.pixel_um_y, row.pixel_um_x = (_positive(size) for size in image.pixel_um)
    if claim.c < len(image.channels):
        _, excitation, emission = image.channels[claim.c]
        row.excitation_nm, row.emission_nm = _positive(excitation), _positive(emission)
    row.z_um = claim.z * _positive(image.step_um)
    plane = image.planes.get((claim.c, claim.z, claim.t))
    row.x_um, row.y_um = image.stage_um
    if plane is not None:
        row.exposure_s, row.time_s = plane.exposure_s, plane.time_s
        if not math.isnan(plane.z_um):
            row.z_um = plane.z_um
        if not math.isnan(plane.x_um + plane.y_um):
            row.x_um, row.y_um = plane.x_um, plane.y_um
    if not math.isnan(sample.x_um + sample.y_um):
        row.x_um, row.y_um = sample.x_um, sample.y_um


def _fields(listed: Sequence[Source], findings: FindingLog) -> Iterator[_Field]:
    """Give each sample once: where several documents have it, by one that describes its image."""
    found: dict[tuple[int, int, str | int], _Field] = {}
    odd: list[str] = []
    for source in listed:
        for plate in source.document.plates:
            for well in plate.wells:
                try:
                    well_name(well.row, well.col)
                except ValueError:
                    if well.samples:
                        odd.append(f"row {well.row}, column {well.col}")
                    continue
                for place, sample in enumerate(well.samples):
                    field = _Field(
                        row=well.row,
                        col=well.col,
                        acquisition=_acquisition(plate, sample),
                        order=(sample.index if sample.index >= 0 else place, place),
                        sample=sample,
                        source=source,
                        image=source.document.images.get(sample.image),
                    )
                    key = (well.row, well.col, sample.id or place)
                    known = found.get(key)
                    if known is None or (known.image is None and field.image is not None):
                        found[key] = field
    if odd:
        findings.add(
            "METADATA_INVALID",
            f"{len(odd)} wells lie on no plate and were left out: {some(odd)}.",
            path=listed[0].file.path,
        )
    yield from found.values()


def _acquisition(plate: OmePlate, sample: OmeSample) -> int:
    return next(
        (number for number, samples in enumerate(plate.acquisitions) if sample.id in samples), 0
    )


def _numbered(fields: Sequence[_Field]) -> Iterator[tuple[int, _Field]]:
    """Give the fields of each well and acquisition numbers from 0, in the order of their index."""
    counts: dict[tuple[int, int, int], int] = {}
    for field in sorted(fields, key=lambda each: (each.row, each.col, each.order)):
        key = field.acquisition, field.row, field.col
        counts[key] = counts.get(key, -1) + 1
        yield counts[key], field


def _positive(value: float) -> float:
    return value if value > 0 else math.nan
