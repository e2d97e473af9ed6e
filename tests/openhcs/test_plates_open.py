"""Detection, the stored index, description: what comes around the readers."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from openhcs._errors import (
    AmbiguousFormatError,
    FormatNotRecognisedError,
    PlaneUnreadableError,
    PlateError,
)
from openhcs.plates import PlateIndex, describe, format_names, open_plate, read_index, write_index
from openhcs.testing import PlateTruth, synthetic_plate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> PlateTruth:
    return synthetic_plate(
        tmp_path_factory.mktemp("plates") / "plate",
        wells=("A01", "B02"),
        grid=(1, 2),
        size_px=48,
        z=2,
        cells_per_field=2,
    )


@pytest.fixture
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def stored(cache_home: Path) -> list[Path]:
    return sorted((cache_home / "openhcs" / "plates").glob("*.npz"))


def test_import_brings_no_reader_of_files() -> None:
    code = (
        "import sys, openhcs.plates; "
        "heavy = {'tifffile', 'pyarrow', 'scipy', 'zarr', 'skimage'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_an_unknown_folder_is_refused_with_what_each_format_lacked(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(FormatNotRecognisedError) as caught:
        open_plate(tmp_path, cache=False)
    for name in format_names():
        assert f"{name}: no " in str(caught.value)


def test_names_without_the_tag_are_said_to_lack_it(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "P_A01_s1.tif", np.zeros((4, 4), np.uint16))
    with pytest.raises(FormatNotRecognisedError, match="tag 305 is not MetaSeries"):
        open_plate(tmp_path, cache=False)


def test_thumbnails_alone_are_no_plate(real_plates: Path, tmp_path: Path) -> None:
    (thumbnail,) = (real_plates / "imagexpress_database").glob("exp126-*.tif")
    (tmp_path / thumbnail.name).write_bytes(thumbnail.read_bytes())
    with pytest.raises(FormatNotRecognisedError, match="but thumbnails"):
        open_plate(tmp_path, cache=False)


def test_two_formats_in_one_folder_are_named_with_the_option(
    tmp_path: Path, truth: PlateTruth
) -> None:
    synthetic_plate(tmp_path / "p", format="phenix", wells=("A01",), size_px=32, z=1, grid=(1, 1))
    (tmp_path / "p" / "q.HTD").write_bytes((truth.folder / "plate.HTD").read_bytes())
    with pytest.raises(AmbiguousFormatError, match=r"--format NAME") as caught:
        open_plate(tmp_path / "p", cache=False)
    assert "harmony" in str(caught.value)
    assert "imagexpress" in str(caught.value)
    index = open_plate(tmp_path / "p", format="harmony", cache=False)
    assert (index.format, len(index)) == ("harmony", 2)
    assert "chosen by hand" in index.why


def test_several_plates_in_one_folder_are_listed(real_plates: Path) -> None:
    with pytest.raises(AmbiguousFormatError, match="Projection-Mix, SingleChannel"):
        open_plate(real_plates / "imagexpress_database", cache=False)
    with pytest.raises(AmbiguousFormatError, match="2 plates"):
        open_plate(real_plates / "phenix", cache=False)


def test_a_plate_that_has_another_one_in_it_is_refused_with_what_to_do(
    tmp_path: Path, truth: PlateTruth
) -> None:
    shutil.copytree(truth.folder, tmp_path / "p")
    shutil.copytree(truth.folder, tmp_path / "p" / "backup")
    with pytest.raises(AmbiguousFormatError, match=r"moved out of it.*: backup$") as caught:
        open_plate(tmp_path / "p", cache=False)
    assert "of them: ., " not in str(caught.value)


def test_an_unknown_format_name_is_refused(truth: PlateTruth) -> None:
    with pytest.raises(FormatNotRecognisedError, match="imagexpress-database"):
        open_plate(truth.folder, format="czi", cache=False)


def test_no_folder_is_no_plate(tmp_path: Path) -> None:
    with pytest.raises(FormatNotRecognisedError, match="there is no folder"):
        open_plate(tmp_path / "nowhere", cache=False)


def test_a_url_is_said_to_be_no_folder_without_what_is_secret_in_it() -> None:
    with pytest.raises(FormatNotRecognisedError, match=r"polystore\.omezarr reads") as caught:
        open_plate("s3://me:secret@store/plate.zarr")
    assert "secret" not in str(caught.value)


def test_a_file_of_the_plate_opens_its_folder(truth: PlateTruth) -> None:
    assert open_plate(truth.folder / "plate.HTD", cache=False).name == "plate"


def test_why_names_the_format_and_what_it_was_known_by(truth: PlateTruth) -> None:
    assert open_plate(truth.folder, cache=False).why == "imagexpress, it has the plan plate.HTD"


def test_an_index_reads_back_equal_without_pickle(truth: PlateTruth, tmp_path: Path) -> None:
    index = open_plate(truth.folder, cache=False)
    write_index(index, tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    again = read_index(tmp_path / "index")
    assert again == index
    assert again.identity == index.identity
    assert again != index.select(wells=["A01"])
    with np.load(tmp_path / "index", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


def test_a_harmony_index_reads_back_with_its_profiles(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", format="phenix", wells=("A01",), grid=(1, 1), size_px=(32, 40), z=1
    )
    index = open_plate(truth.folder, cache=False)
    write_index(index, tmp_path / "index")
    again = read_index(tmp_path / "index")
    assert again == index
    for channel in index.channels:
        first, second = index.vendor_profile(channel), again.vendor_profile(channel)
        assert first is not None
        assert second is not None
        np.testing.assert_array_equal(first, second)
        ratio = first / truth.illumination[channel]
        assert ratio.std() / ratio.mean() < 0.02


def test_an_empty_selection_is_stored_too(truth: PlateTruth, tmp_path: Path) -> None:
    nothing = open_plate(truth.folder, cache=False).select(wells=[])
    write_index(nothing, tmp_path / "index")
    assert len(read_index(tmp_path / "index")) == 0
    assert read_index(tmp_path / "index").wells == ()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut", None])
def test_a_damaged_stored_index_is_made_again(
    truth: PlateTruth, cache_home: Path, damage: bytes | None
) -> None:
    first = open_plate(truth.folder)
    (file,) = stored(cache_home)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    with pytest.raises(PlateError, match="open the plate again"):
        read_index(file)
    assert open_plate(truth.folder) == first
    assert read_index(file) == first


def test_a_changed_plate_has_another_stored_index(tmp_path: Path, cache_home: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", wells=("A01",), grid=(1, 2), size_px=32, z=1)
    first = open_plate(truth.folder)
    file = truth.folder / str(truth.planes["path"][0])
    stat = file.stat()
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    second = open_plate(truth.folder)
    assert second.identity != first.identity
    assert len(stored(cache_home)) == 2
    assert open_plate(truth.folder, deep=True).facts.deep
    assert len(stored(cache_home)) == 3


def test_another_version_of_the_package_reads_the_plate_anew(
    truth: PlateTruth, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a reader overlooked must not stay overlooked once it was mended."""
    open_plate(truth.folder)
    monkeypatch.setattr("openhcs.plates._cache.version", lambda _: "99.0")
    open_plate(truth.folder)
    assert len(stored(cache_home)) == 2


def test_what_could_not_be_read_is_looked_at_again(
    truth: PlateTruth, cache_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share that was away, or a right that was missing, changes no size and no time."""

    def away(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patched:
        patched.setattr("openhcs.plates._headers.read_tiff_header", away)
        index = open_plate(truth.folder, deep=True)
    assert {finding.code for finding in index.findings} >= {"UNREADABLE"}
    assert not stored(cache_home)
    index = open_plate(truth.folder, deep=True)
    assert not index.findings
    assert len(index) == 16


def test_a_cache_that_cannot_be_written_is_no_error(
    truth: PlateTruth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(open_plate(truth.folder)) == 16


def test_nothing_is_stored_when_not_asked_to(truth: PlateTruth, cache_home: Path) -> None:
    open_plate(truth.folder, cache=False)
    assert not cache_home.exists()


def test_the_description_keeps_the_contract(truth: PlateTruth) -> None:
    index = open_plate(truth.folder, cache=False)
    facts: dict[str, Any] = json.loads(json.dumps(describe(index)))
    assert facts["format"] == "imagexpress"
    assert (facts["wells"], facts["fields"]) == (["A01", "B02"], [0, 1])
    assert (facts["channels"], facts["z"], facts["t"]) == (["DAPI", "GFP"], [0, 1], [0])
    assert (facts["planes"], facts["expected"], facts["found"]) == (16, 16, 16)
    assert facts["pixel_size_um"] == pytest.approx([0.65, 0.65])
    assert facts["dtype"] == "uint16"
    assert facts["findings"] == []
    grid = facts["grids"]["A01"]
    assert (grid["rows"], grid["columns"], grid["regular"]) == (1, 2, True)
    assert grid["cells"] == {"0": [0, 0], "1": [0, 1]}
    assert grid["step_um"][0] is None
    assert grid["step_um"][1] == pytest.approx(48 * 0.65 * 0.9, rel=0.02)


def test_findings_say_what_they_concern(tmp_path: Path) -> None:
    truth = synthetic_plate(tmp_path / "p", size_px=32, z=1, faults=("empty-file",))
    (fault,) = truth.faults
    (finding,) = describe(open_plate(truth.folder, cache=False))["findings"]
    assert finding["code"] == "EMPTY_FILE"
    assert finding["severity"] == "error"
    assert fault.path in finding["message"]
    assert finding["file"] == fault.path
    for name in ("well", "field", "z", "t"):
        assert finding[name] == getattr(fault, name)
    assert finding["channel"] == truth.spec.channels[fault.channel]


@pytest.fixture
def index(truth: PlateTruth) -> PlateIndex:
    return open_plate(truth.folder, cache=False)


def test_selections_narrow_and_keep_the_plate(index: PlateIndex) -> None:
    some = index.select(wells=["B02"], fields=[1], channels=(0,), z={1})
    (plane,) = some
    assert (plane.well, plane.field, plane.channel, plane.z) == ("B02", 1, 0, 1)
    assert (some.wells, some.fields, some.channels, some.z) == (("B02",), (1,), (0,), (1,))
    assert some.channel_names == index.channel_names
    assert some.identity == index.identity
    assert len(index.select(kind="max")) == 0
    with pytest.raises(TypeError, match="wells is the text"):
        index.select(wells="A01")


def test_columns_cannot_be_written(index: PlateIndex) -> None:
    with pytest.raises(ValueError, match="read-only"):
        index.column("x_um")[0] = 1.0
    with pytest.raises(ValueError, match="read-only"):
        index.select(z=[0]).column("z")[0] = 1


def test_reading_checks_what_the_index_says(tmp_path: Path) -> None:
    truth = synthetic_plate(
        tmp_path / "p", wells=("A01",), grid=(1, 2), size_px=32, z=1, channels=["A"]
    )
    index = open_plate(truth.folder, cache=False)
    first, second = index
    assert first.path is not None
    file = truth.folder / first.path
    about = file.stat()

    def write(data: bytes) -> None:
        """Put something in the file's place that looks the same in its folder."""
        file.write_bytes(data.ljust(about.st_size, b"\0"))
        os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns))

    def tiff(pixels: Any) -> bytes:
        tifffile.imwrite(file, pixels)
        return file.read_bytes()

    write(tiff(np.zeros((32, 31), np.uint16)))
    with pytest.raises(PlaneUnreadableError, match=r"shape \(32, 31\)"):
        index.read(first)
    write(tiff(np.zeros((32, 32), np.uint8)))
    with pytest.raises(PlaneUnreadableError, match="uint8; the index says uint16"):
        index.read(first)
    write(b"II*\0 this is no image")
    with pytest.raises(PlaneUnreadableError, match=r"cannot be decoded|has no image"):
        index.read(first)
    file.write_bytes(file.read_bytes())  # as a program does that is still writing
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 60 * 10**9))
    with pytest.raises(PlaneUnreadableError, match="was changed after the plate was indexed"):
        index.read(first)
    file.unlink()
    with pytest.raises(PlaneUnreadableError, match="well A01 field 0"):
        index.read(first)
    assert index.read(second).shape == (32, 32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "palette"])
def test_pixels_are_intensities_in_native_order(
    tmp_path: Path, order: Any, photometric: str, truth: PlateTruth
) -> None:
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    options: dict[str, Any] = {"photometric": photometric}
    if photometric == "palette":
        options["colormap"] = np.random.default_rng(0).integers(0, 65535, (3, 256), np.uint16)
    tifffile.imwrite(tmp_path / "P_A01.TIF", pixels, byteorder=order, metadata=None, **options)
    (tmp_path / "P.HTD").write_bytes((truth.folder / "plate.HTD").read_bytes())
    index = open_plate(tmp_path, cache=False)
    found = index.read(next(iter(index.select())))
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, 255 - pixels if photometric == "miniswhite" else pixels)


def test_planes_taken_before_the_time_point_before_them_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "plate"
    synthetic_plate(folder, format="phenix", wells=["A01"], grid=(1, 1), t=3, z=1, size_px=48)
    codes = {finding.code for finding in open_plate(folder, cache=False).findings}
    assert "TIME_ORDER" not in codes
    path = folder / "Images" / "Index.idx.xml"
    text = path.read_text(encoding="utf-8-sig")
    first, last = (re.findall("<AbsTime>(.*?)</AbsTime>", text)[n] for n in (0, 4))
    exchanged = text.replace(first, "@").replace(last, first).replace("@", last)
    path.write_text(exchanged, encoding="utf-8")
    found = open_plate(folder, cache=False).findings
    (finding,) = (each for each in found if each.code == "TIME_ORDER")
    assert (finding.severity, finding.well, finding.field, finding.t) == ("warning", "A01", 0, 1)
    assert "before the time point before it (2 planes of the well were)" in finding.message
