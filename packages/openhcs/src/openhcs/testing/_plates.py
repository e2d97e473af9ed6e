"""Synthetic plates: scene, optics and layout put together, with the truth beside them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from openhcs.testing import _truth
from openhcs.testing._assay import default_condition, expected_assay
from openhcs.testing._faults import as_faults, inject
from openhcs.testing._perfect import profile, well_places
from openhcs.testing._spec import PlateSpec
from openhcs.testing._truth import PlateTruth, read_truth, truth_folder, write_table
from openhcs.testing._well_writer import WellRecord, write_file, write_well
from openhcs.testing.formats import LAYOUTS, as_layout, quirks_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from openhcs.testing._faults import Fault, FaultKind, InjectedFault
    from openhcs.testing._spec import Compression, Condition, EmptyOverlaps, Hole, Projection
    from openhcs.testing.formats import Layout

__all__ = ["synthetic_plate"]

CELLS_PER_UM2 = 8e-4


def synthetic_plate(
    folder: str | Path,
    *,
    format: str | Layout = "imagexpress",  # noqa: A002  # the word the plates package uses
    wells: Sequence[str] = ("A01", "C04", "D02", "H12"),
    grid: tuple[int, int] = (2, 2),
    overlap: float = 0.10,
    channels: Sequence[str] = ("DAPI", "GFP"),
    z: int = 3,
    t: int = 1,
    size_px: int | tuple[int, int] = 256,
    pixel_um: float = 0.65,
    z_step_um: float = 3.0,
    stage_error_px: float = 2.0,
    channel_shift_px: float = 0.0,
    cells_per_field: float | None = None,
    touching: float = 0.0,
    texture: float = 0.06,
    empty_overlaps: EmptyOverlaps = "none",
    empty_wells: Sequence[str] = (),
    vignetting: float = 0.5,
    defocus: float = 0.35,
    focus_spread_um: float = 0.0,
    noise: bool = True,
    offset: float = 100.0,
    read_noise: float = 5.0,
    hot_pixels: int = 0,
    platemap: Mapping[str, Condition] | None = None,
    well_cv: float = 0.04,
    edge_effect: float = 0.0,
    gradient: tuple[float, float] = (0.0, 0.0),
    single_plane: Sequence[str] = (),
    compression: Compression | None = None,
    projections: bool | Sequence[Projection] = False,
    channel_projections: Mapping[str, Sequence[Projection]] | None = None,
    projection_only: Sequence[str] = (),
    timepoint_folders: bool | None = None,
    well_fields: Mapping[str, int] | None = None,
    channel_times: Mapping[str, Sequence[int]] | None = None,
    holes: Sequence[Hole] = (),
    stamp: bool = False,
    plate_rows: int = 8,
    plate_columns: int = 12,
    seed: int = 0,
    faults: Sequence[Fault | FaultKind] = (),
    processes: int = 1,
) -> PlateTruth:
    """Write a plate of made-up cells in a vendor's layout, and all that is true about it.

    Parameters
    ----------
    folder
        The plate's folder; it is made and may not exist, or be empty. Its name is the plate's
        name. The truth goes to ``{folder}.truth`` beside it.
    format
        Name of a layout of `openhcs.testing.formats`, such as ``imagexpress`` or ``phenix``; or a
        layout, to say which of its quirks the plate has.
    wells
        Names of the wells.
    grid
        Fields per well (rows, columns).
    overlap
        Fraction of a tile that its neighbour shows too.
    channels
        Names. The first shows nuclei, the others whole cells; the effect of a well's condition
        acts on the second.
    z, t
        Planes per stack and time points.
    size_px
        Pixels of a tile (y, x), or one number for both.
    pixel_um, z_step_um
        Pixel size and distance of the planes.
    stage_error_px
        Largest error of the stage along each axis: the true place is anywhere, between pixels too.
    channel_shift_px
        Largest shift of a channel against the first along each axis.
    cells_per_field
        Mean number; None means 800 per mm².
    touching
        Fraction of the nuclei that touch another one.
    texture
        Standard deviation of the background relative to its mean.
    empty_overlaps
        Overlaps without content: between ``rows``, between ``columns``, ``all`` or ``none``.
    empty_wells
        Wells without content.
    vignetting
        Corners relative to the middle of a field.
    defocus
        Blur in µm of standard deviation per µm of distance from the sharp plane.
    focus_spread_um
        The sharp plane lies up to so far from the middle of the stack, by well.
    noise
        Whether there is shot and read noise.
    offset, read_noise
        Of the camera, in counts.
    hot_pixels
        Number of stuck pixels of the camera, the same ones in all planes of a channel.
    platemap
        Conditions by well; None, or a well left out, means `default_condition`.
    well_cv
        Variation of the second channel between wells of one condition.
    edge_effect
        Share of the second channel that the outermost rows and columns lack.
    gradient
        Relative change of the second channel from the first row to the last, and from the first
        column to the last.
    single_plane
        Channels of which one plane is taken while the others have stacks. An ImageXpress export
        holds copies of it in the other ``ZStep_`` folders.
    compression
        ``none``, ``lzw`` or ``deflate``; None means what the format's instruments write.
    projections
        Kinds of projection that are stored too, of the channels with stacks; True means
        ``("max",)``. The format must have a place for them.
    channel_projections
        Channels that have other kinds of projection than the rest, and which.
    projection_only
        Channels of which the projections are stored and the planes are not.
    timepoint_folders
        Whether there are ``TimePoint_`` folders (ImageXpress); None means if t or z is above 1.
    well_fields
        Wells that have fewer fields than the grid, and how many: the first of the format's order.
    channel_times
        Channels that were taken at some time points only, and at which, 0-based.
    holes
        Planes that were never acquired.
    stamp
        Whether every plane carries its key in its first 16 pixels (32 of 8 bits).
    plate_rows, plate_columns
        Size of the plate.
    seed
        Decides everything that is random.
    faults
        Damage to do at the end: kinds, or `Fault` to say to which plane.
    processes
        Worker processes; more than one needs the ``__main__`` guard in a script.

    Returns
    -------
    PlateTruth
        The truth, as `read_truth` gives it later.

    Raises
    ------
    FileExistsError
        If the folder, or its truth, has files in it.
    ValueError
        If a parameter is out of range, or a fault does not fit the plate.

    Notes
    -----
    The scene of a well depends on the seed and the well, the noise of a plane on these and its
    key: writing order, number of processes and the other wells do not change a byte.
    Costs about 0.1 s of CPU per plane of 1080² px with LZW, its share of the scene included.
    """
    plate = Path(folder).absolute()
    size = (size_px, size_px) if isinstance(size_px, int) else size_px
    given = platemap or {}
    layout = as_layout(format)
    if cells_per_field is None:
        cells_per_field = CELLS_PER_UM2 * size[0] * size[1] * pixel_um**2
    spec = PlateSpec(
        name=plate.name,
        format=layout.name,
        quirks=quirks_of(layout),
        layout=None if type(layout) in LAYOUTS else layout,
        wells=tuple(wells),
        grid=(grid[0], grid[1]),
        overlap=overlap,
        channels=tuple(channels),
        z=z,
        t=t,
        size_px=(size[0], size[1]),
        pixel_um=pixel_um,
        z_step_um=z_step_um,
        stage_error_px=stage_error_px,
        channel_shift_px=channel_shift_px,
        cells_per_field=cells_per_field,
        touching=touching,
        texture=texture,
        empty_overlaps=empty_overlaps,
        empty_wells=tuple(empty_wells),
        vignetting=vignetting,
        defocus=defocus,
        focus_spread_um=focus_spread_um,
        noise=noise,
        offset=offset,
        read_noise=read_noise,
        hot_pixels=hot_pixels,
        well_cv=well_cv,
        edge_effect=edge_effect,
        gradient=(gradient[0], gradient[1]),
        single_plane=tuple(single_plane),
        compression=compression or layout.compression,
        projections=_projections(projections, channel_projections) if z > 1 else (),
        channel_projections=()
        if channel_projections is None or z == 1
        else tuple(
            (name, tuple(channel_projections.get(name, _projections(projections))))
            for name in channels
        ),
        projection_only=tuple(projection_only),
        timepoint_folders=(t > 1 or z > 1) if timepoint_folders is None else timepoint_folders,
        well_fields=tuple((well_fields or {}).items()),
        channel_times=tuple((name, tuple(t)) for name, t in (channel_times or {}).items()),
        holes=tuple(holes),
        stamp=stamp,
        plate_rows=plate_rows,
        plate_columns=plate_columns,
        seed=seed,
        conditions=tuple(
            given.get(well) or default_condition(well, plate_columns=plate_columns)
            for well in wells
        ),
    )
    layout.check(spec)
    damage = as_faults(spec, faults)
    truth = truth_folder(plate)
    for target in (plate, truth):
        if target.exists() and any(target.iterdir()):
            raise FileExistsError(f"{target} is not empty; name a new folder for the plate")
        target.mkdir(parents=True, exist_ok=True)
    (truth / "labels").mkdir(exist_ok=True)

    records = _write_wells(spec, plate, processes)
    rows = [row for record in records for row in record.files]
    places = {well: well_places(spec, well) for well in spec.wells}
    for file in layout.metadata(spec, places):
        rows += write_file(plate, spec, file)
    injected = inject(plate, spec, rows, damage)
    _write_truth(truth, spec, rows, records, injected)
    return read_truth(plate)


def _projections(
    asked: bool | Sequence[Projection],
    of_channels: Mapping[str, Sequence[Projection]] | None = None,
) -> tuple[Projection, ...]:
    """Give all kinds that some channel has, each once."""
    kinds: list[Projection] = ["max"] if asked is True else list(asked or ())
    for of_channel in (of_channels or {}).values():
        kinds += of_channel
    return tuple(dict.fromkeys(kinds))


def _write_wells(spec: PlateSpec, plate: Path, processes: int) -> list[WellRecord]:
    """Write the wells, in this process or in workers; the records come in the order of wells."""
    tasks = [(spec, str(plate), well) for well in spec.wells]
    if processes <= 1:
        return [write_well(task) for task in tasks]
    import concurrent.futures
    import multiprocessing

    with concurrent.futures.ProcessPoolExecutor(
        min(processes, len(tasks)), mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        return list(pool.map(write_well, tasks))


def _write_truth(
    truth: Path,
    spec: PlateSpec,
    rows: list[dict[str, object]],
    records: list[WellRecord],
    injected: Sequence[InjectedFault],
) -> None:
    """Write the tables and profiles of the truth."""
    _truth.write_truth_file(truth, spec)
    (truth / "assay.json").write_text(json.dumps(expected_assay(spec), indent=2) + "\n", "utf-8")
    write_table(truth / "planes.csv", _truth.PLANE_COLUMNS, rows)
    write_table(
        truth / "tiles.csv",
        _truth.TILE_COLUMNS,
        [row for record in records for row in record.tiles],
    )
    write_table(
        truth / "cells.csv",
        _truth.cell_columns(spec.channels),
        [row for record in records for row in record.cells],
    )
    write_table(
        truth / "platemap.csv",
        _truth.PLATEMAP_COLUMNS,
        [
            {
                "well": well,
                "role": condition.role,
                "compound": condition.compound,
                "dose_um": condition.dose_um,
                "effect": condition.effect,
                "layout_factor": spec.layout_factor(well),
                "well_factor": spec.well_factor(well),
            }
            for well, condition in zip(spec.wells, spec.conditions, strict=True)
        ],
    )
    write_table(
        truth / "channel_shift.csv",
        _truth.SHIFT_COLUMNS,
        [
            {"channel": channel, **dict(zip(("dy_px", "dx_px"), shift, strict=True))}
            for channel in range(len(spec.channels))
            for shift in (spec.channel_shift(channel),)
        ],
    )
    write_table(
        truth / "faults.csv",
        _truth.FAULT_COLUMNS,
        [dataclasses.asdict(fault) for fault in injected],
    )
    for channel in range(len(spec.channels)):
        field = profile(channel, spec.vignetting, spec.size_px)
        np.save(truth / f"illumination_ch{channel}.npy", field)
