from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaozarrs
import zarr

from polystore import LayoutError, NotStoredError, UnreadableError
from polystore.files import remove_leftovers
from polystore.omezarr import (
    ChannelMeta,
    ImageMeta,
    ImagePart,
    ImageWriter,
    OmeVersion,
    PartWriter,
    PlateLayout,
    create_image,
    create_plate,
    finish_image,
    open_image,
    settle_plate,
    store_problems,
)
from polystore.omezarr._pyramid import halve_mean

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

BOTH = pytest.mark.parametrize("plate", list(OmeVersion), indirect=True)


@pytest.fixture
def plate(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    path = tmp_path / "plate.zarr"
    layout = PlateLayout.regular("p", rows=8, columns=12, wells=["A01", "B02"], images=["stitched"])
    create_plate(path, layout, version=getattr(request, "param", OmeVersion.V05))
    return path


def noise(*shape: int) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4000, shape, dtype=np.uint16)


def fill(plate: Path, whole: NDArray[Any], parts: Any = None) -> PartWriter:
    """Write parts of a picture with the axes t, c, z, y, x."""
    writer = PartWriter(plate, "A01", "stitched")
    for part in writer.parts if parts is None else parts:
        writer.write(part, whole[part.t, part.c, part.z][part.region])
    return writer


@BOTH
@pytest.mark.parametrize(
    ("shape", "part_px", "coarsest_px", "count"),
    [
        ((1, 2, 1, 700, 901), None, 512, 2),
        ((2, 1, 3, 45, 30), None, 512, 6),
        ((1, 1, 1, 1300, 2100), 600, 512, 12),
        ((1, 1, 1, 1, 1), 1, 512, 1),
        # parts are not smaller than a pixel of the coarsest level
        ((1, 1, 1, 103, 51), 1, 30, 26 * 13),
    ],
)
def test_an_image_of_parts_is_the_same_as_one_written_whole(
    plate: Path, shape: tuple[int, ...], part_px: int | None, coarsest_px: int, count: int
) -> None:
    whole = noise(*shape)
    create_image(plate, "A01", "stitched", shape, "u2", part_px=part_px, coarsest_px=coarsest_px)
    parts = PartWriter(plate, "A01", "stitched").parts
    assert len(parts) == count
    fill(plate, whole, reversed(parts))
    path = finish_image(plate, "A01", "stitched")
    with ImageWriter(plate, "B02", "stitched", shape, "u2", coarsest_px=coarsest_px) as writer:
        for t, c, z in np.ndindex(shape[:3]):
            writer.write_plane(whole[t, c, z], t=t, c=c, z=z)
        writer.commit()
    assert store_problems(path) == ()
    yaozarrs.validate_zarr_store(str(path))
    ours, other = open_image(plate, "A01", "stitched"), open_image(plate, "B02", "stitched")
    assert ours.shapes == other.shapes
    assert len(ours.windows) == len(other.windows) == shape[1]
    for level in range(ours.level_count):
        for t, c, z in np.ndindex(shape[:3]):
            np.testing.assert_array_equal(
                ours.read(level, t=t, c=c, z=z), other.read(level, t=t, c=c, z=z)
            )
        array = zarr.open_array(ours.level_path(level), mode="r")
        np.testing.assert_array_equal(np.asarray(array[0, 0, 0]), ours.read(level))


PARTS = """
import sys
import numpy as np
from polystore.omezarr import PartWriter
plate, number = sys.argv[1], int(sys.argv[2])
writer = PartWriter(plate, "A01", "stitched")
whole = np.random.default_rng(0).integers(0, 4000, (1, 2, 1, 900, 700), dtype=np.uint16)
for turn, part in enumerate(writer.parts[number::3]):
    if number == 0 and turn == 2:
        print("two parts are written", flush=True)
        sys.stdin.read()
    writer.write(part, whole[part.t, part.c, part.z][part.region])
"""


@BOTH
def test_processes_write_parts_of_one_image_and_the_death_of_one_harms_no_other(
    plate: Path,
) -> None:
    shape = (1, 2, 1, 900, 700)
    whole = noise(*shape)
    create_image(plate, "A01", "stitched", shape, "u2", part_px=256)
    killed, *others = [
        subprocess.Popen(
            [sys.executable, "-c", PARTS, str(plate), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for number in range(3)
    ]
    assert killed.stdout is not None
    assert killed.stdout.readline()
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    for child in others:
        child.communicate()
        assert child.returncode == 0
    remove_leftovers(plate)
    writer = PartWriter(plate, "A01", "stitched")
    missing = writer.missing()
    assert missing == writer.parts[0::3][2:]
    reader = open_image(plate, "A01", "stitched")
    for part in set(writer.parts) - set(missing):
        np.testing.assert_array_equal(
            reader.read(c=part.c, region=part.region), whole[0, part.c, 0][part.region]
        )
    with pytest.raises(UnreadableError, match="not been written yet"):
        reader.read(c=missing[0].c, region=missing[0].region)
    with pytest.raises(LayoutError, match=rf"{len(missing)} of {len(writer.parts)} parts"):
        finish_image(plate, "A01", "stitched")
    # another one goes on where it was killed
    fill(plate, whole, missing)
    finish_image(plate, "A01", "stitched")
    reader = open_image(plate, "A01", "stitched")
    for c in range(2):
        np.testing.assert_array_equal(reader.read(c=c), whole[0, c, 0])
        np.testing.assert_array_equal(reader.read(1, c=c), halve_mean(whole[0, c, 0]))
    assert list(settle_plate(plate).wells) == ["A01"]


@BOTH
def test_parts_may_be_missing_when_said_and_a_file_that_is_gone_is_noticed(plate: Path) -> None:
    whole = noise(1, 1, 1, 300, 300) + np.uint16(1)
    create_image(plate, "A01", "stitched", whole.shape, "u2", part_px=100, coarsest_px=80)
    writer = PartWriter(plate, "A01", "stitched")
    fill(plate, whole, writer.parts[1:])
    finish_image(plate, "A01", "stitched", partial=True)
    reader = open_image(plate, "A01", "stitched")
    first, last = writer.parts[0], writer.parts[-1]
    for level in range(reader.level_count):
        height, width = first.height >> level, first.width >> level
        assert not reader.read(level)[:height, :width].any()
        assert reader.read(level)[height:, :].any()
    np.testing.assert_array_equal(reader.read()[last.region], whole[0, 0, 0][last.region])
    for file in reader.level_path(0).rglob("*"):
        if file.is_file() and not file.name.startswith((".z", "zarr")):
            file.unlink()
    with pytest.raises(UnreadableError, match="damaged"):
        reader.read()


def test_channels_without_a_window_get_one_when_the_image_is_finished(plate: Path) -> None:
    meta = ImageMeta(
        channels=(ChannelMeta("a", "FF0000", (5, 7)), ChannelMeta("b")), units="counts", lossy=True
    )
    whole = np.broadcast_to(np.uint16(300), (1, 2, 1, 40, 40)).copy()
    whole[..., 20:] = 500
    create_image(plate, "A01", "stitched", whole.shape, "u2", meta)
    assert open_image(plate, "A01", "stitched").windows == ((5, 7), (0, 65535))
    fill(plate, whole)
    finish_image(plate, "A01", "stitched")
    reader = open_image(plate, "A01", "stitched")
    assert reader.windows == ((5, 7), (300, 500))
    assert [channel.name for channel in reader.channels] == ["a", "b"]
    assert (reader.units, reader.lossy) == ("counts", True)


def test_parts_that_are_none_are_refused(plate: Path) -> None:
    with pytest.raises(NotStoredError):
        PartWriter(plate, "A01", "stitched")
    for wrong in (0, -4):
        with pytest.raises(LayoutError, match="parts cannot"):
            create_image(plate, "A01", "stitched", (1, 9, 9), "u2", part_px=wrong)
    create_image(plate, "A01", "stitched", (1, 90, 90), "u2", part_px=40, coarsest_px=60)
    writer = PartWriter(plate, "A01", "stitched")
    first = writer.parts[0]
    for pixels in (np.zeros((3, 3), "u2"), np.zeros((first.height, first.width), "u1")):
        with pytest.raises(LayoutError, match="has to be"):
            writer.write(first, pixels)
    for part in (
        ImagePart(0, 0, 0, 1, 0, first.height, first.width),
        ImagePart(0, 1, 0, 0, 0, first.height, first.width),
        ImagePart(0, 0, 0, 0, 0, 7, 7),
    ):
        with pytest.raises(LayoutError, match="has no part"):
            writer.write(part, np.zeros((part.height, part.width), "u2"))
    with ImageWriter(plate, "B02", "stitched", (1, 9, 9), "u2") as other:
        other.write_plane(np.zeros((9, 9), "u2"))
        other.commit()
    with pytest.raises(LayoutError, match="create_image"):
        PartWriter(plate, "B02", "stitched")
