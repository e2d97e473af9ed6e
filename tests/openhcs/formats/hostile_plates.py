"""Sound plates of every format to be damaged, and what may become of one that was."""

from __future__ import annotations

import resource
import shutil
import sys
import warnings
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

from openhcs._errors import PlaneUnreadableError, PlateError
from openhcs.plates import Description, PlateIndex, open_plate, read_index, write_index
from openhcs.testing import synthetic_plate
from openhcs.testing.formats import LAYOUTS, ImageXpressExport, Phenix, ScanRDescriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from openhcs.testing.formats import Layout

MOST_BYTES = 1 << 30
PATTERN = (
    r"data/(?P<well>[A-Z]+\d+)--W\d+--P(?P<field>\d+)--Z(?P<z>\d+)--T(?P<t>\d+)"
    r"--(?P<channel>.+)\.tif"
)
PLATES: dict[str, Layout] = {
    **{layout.name: layout() for layout in LAYOUTS},
    "imagexpress-flat": ImageXpressExport(flat=True, suffix=".tif"),
    "harmony-v6": Phenix(version="V6", index="Index.ref.xml", bom=False, instrument="Sonata"),
    "harmony-v7": Phenix(version="V7"),
    "operetta": Phenix(instrument="Operetta", folder="images"),
    "described": ScanRDescriptor(token=True),
}
EVERY = pytest.mark.parametrize("name", PLATES)
WITH_FILES = pytest.mark.parametrize(
    "name",
    [name for name in (*(layout.name for layout in LAYOUTS), "described") if "zarr" not in name],
)


class Opened(NamedTuple):
    """What became of a plate: its index or the refusal, and the planes that could not be read."""

    plate: PlateIndex | None
    refused: str
    unread: list[str]

    @property
    def codes(self) -> Counter[str]:
        return Counter(finding.code for finding in self.plate.findings) if self.plate else Counter()


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Path], Path]:
    """Gives a copy of a sound plate of a few tiny images."""
    whole = tmp_path_factory.mktemp("whole")

    def copy(name: str, to: Path) -> Path:
        layout = PLATES[name]
        if not (whole / name).exists():
            synthetic_plate(
                whole / name / "p",
                format=layout,
                wells=("A01", "B02"),
                grid=(1, 2) if "field" in layout.axes else (1, 1),
                z=2 if "z" in layout.axes else 1,
                size_px=32,
                cells_per_field=1,
            )
        return Path(shutil.copytree(whole / name / "p", to / "p"))

    return copy


@contextmanager
def bounded() -> Iterator[None]:
    """Let this process take no more than so many bytes beside those that it has."""
    if sys.platform != "linux":
        yield
        return
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def opened(name: str, folder: Path, *, deep: bool = True) -> Opened:
    """Open a plate and read all of it, as far as that goes."""
    described = Description(pattern=PATTERN) if name == "described" else None
    unread: list[str] = []
    with bounded(), warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            index = open_plate(folder, cache=False, deep=deep, described=described)
        except PlateError as error:
            return Opened(None, str(error), [])
        for plane in index:
            try:
                pixels = index.read(plane)
            except PlaneUnreadableError as error:
                unread.append(str(error))
            else:
                assert plane.shape in (None, pixels.shape)
                assert plane.dtype in (None, pixels.dtype)
    check_sense(index, folder)
    return Opened(index, "", unread)


def check_sense(index: PlateIndex, folder: Path) -> None:
    """What an index may be expected to hold, whatever the files say."""
    assert len(index) < 1000
    assert 0 < index.rows <= 32
    assert 0 < index.columns <= 48
    for name in ("x_um", "y_um", "z_um", "pixel_um_y", "pixel_um_x", "exposure_s"):
        assert not np.isinf(index.column(name)).any(), name
    assert not (index.column("pixel_um_x") <= 0).any()
    assert all(len(finding.message) < 4000 for finding in index.findings)
    write_index(index, folder.parent / "index.npz")
    assert read_index(folder.parent / "index.npz") == index


def is_said(found: Opened, whole: Opened) -> bool:
    return bool(found.refused or found.unread or found.codes - whole.codes)


def texts(folder: Path) -> list[Path]:
    """Files of metadata, not those of the same name twice."""
    found = {
        path.name: path
        for path in sorted(folder.rglob("*"), reverse=True)
        if path.is_file() and path.suffix.lower() not in {".tif", ".png"} and not is_chunk(path)
        if "montage" not in str(path.relative_to(folder))  # is left out
    }
    return list(found.values())


def is_chunk(path: Path) -> bool:
    return path.name.isdecimal() or path.suffix.lower() == ".tiff"
