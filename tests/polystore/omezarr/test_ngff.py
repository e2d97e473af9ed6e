"""The specification's own cases, and plates and images that others wrote, or that nobody should."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from polystore import LayoutError, NotStoredError, StorageError, UnreadableError
from polystore.omezarr import (
    ImageReader,
    ImageSlot,
    LabelsWriter,
    OmeVersion,
    PlateReader,
    metadata_problems,
    open_image,
    read_plate,
    store_problems,
)

CASES = Path(__file__).parents[4] / "shared" / "data" / "ngff_conformance"
NEEDS_CASES = pytest.mark.skipif(
    not CASES.exists(), reason="needs the specification's cases in ../shared/data"
)
VERSIONS = tuple(OmeVersion)
BOTH = pytest.mark.parametrize("version", VERSIONS)
AXES = [
    {"name": "t", "type": "time"},
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "nanometer"},
    {"name": "x", "type": "space", "unit": "millimeter"},
]


def suites() -> list[Any]:
    return [
        pytest.param(
            OmeVersion(file.parents[1].name[1:]),
            file.stem.removesuffix("_suite"),
            case["data"],
            case["valid"],
            id=f"{file.parents[1].name}-{file.stem}-{number}-{case['formerly']}",
        )
        for file in sorted(CASES.glob("v0.[45]/tests/*_suite.json"))
        for number, case in enumerate(json.loads(file.read_text())["tests"])
    ]


def examples() -> list[Any]:
    return [
        pytest.param(file, id="/".join(file.parts[-4:]))
        for file in sorted(CASES.glob("v0.[45]/examples/*/*.json"))
        if not file.name.startswith(".")
    ]


def group(path: Path, version: OmeVersion, attributes: dict[str, Any]) -> Path:
    """Write a group by hand, whatever is said in it."""
    path.mkdir(parents=True, exist_ok=True)
    if version is OmeVersion.V05:
        document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        (path / "zarr.json").write_text(json.dumps(document))
    else:
        (path / ".zgroup").write_text('{"zarr_format": 2}')
        (path / ".zattrs").write_text(json.dumps(attributes))
    return path


def stamped(version: OmeVersion, ome: dict[str, Any]) -> dict[str, Any]:
    return {"ome": {"version": "0.5", **ome}} if version is OmeVersion.V05 else ome


def multiscale(*paths: str, axes: list[dict[str, Any]] | None = None, **more: Any) -> Any:
    axes = AXES if axes is None else axes
    scale = [1.0, 1.0, 2.0, 650.0, 0.5][-len(axes) :]
    datasets = [
        {"path": path, "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for path in paths or ("0",)
    ]
    return {"multiscales": [{"axes": axes, "datasets": datasets, **more}]}


def image(
    path: Path, version: OmeVersion, pixels: Any, ome: dict[str, Any] | None = None, **array: Any
) -> Path:
    """Write an image of one level as any program would, with zarr."""
    axes = AXES[-pixels.ndim :]
    group(path, version, stamped(version, ome or multiscale(axes=axes)))
    array.setdefault("chunks", pixels.shape)
    if version is OmeVersion.V05:
        array["dimension_names"] = [axis["name"] for axis in axes]
    else:
        array.setdefault("chunk_key_encoding", {"name": "v2", "separator": "/"})
    made = zarr.create_array(
        path / "0",
        shape=pixels.shape,
        dtype=pixels.dtype,
        zarr_format=3 if version is OmeVersion.V05 else 2,
        **array,
    )
    made[:] = pixels
    return path


def plate(
    path: Path, version: OmeVersion, rows: list[str], columns: list[str], wells: list[Any]
) -> Path:
    """Write a plate of the least that the format asks for."""
    document = {
        "rows": [{"name": name} for name in rows],
        "columns": [{"name": name} for name in columns],
        "wells": [
            {"path": where, "rowIndex": row, "columnIndex": column} for where, row, column in wells
        ],
    }
    return group(path, version, stamped(version, {"plate": document}))


def well(path: Path, version: OmeVersion, *images: Any) -> Path:
    return group(path, version, stamped(version, {"well": {"images": list(images)}}))


def pixels(*shape: int) -> Any:
    return np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)


@NEEDS_CASES
@pytest.mark.parametrize(("version", "kind", "attributes", "valid"), suites())
def test_the_cases_of_the_specification_come_out_as_labelled(
    tmp_path: Path, version: OmeVersion, kind: str, attributes: dict[str, Any], *, valid: bool
) -> None:
    strict = kind.startswith("strict_")
    problems = metadata_problems(attributes, strict=strict)
    assert (not problems) == valid, problems
    assert all(problem.path.startswith("$") and problem.reason for problem in problems)
    if strict and not valid:
        return  # it is read: it lacks what is recommended
    if problems and all("omero" in problem.path for problem in problems):
        assert ImageReader(group(tmp_path, version, attributes)).axes
        return  # it is read: only how it is shown is wrong
    match kind.removeprefix("strict_"):
        case "plate":
            root = group(tmp_path, version, attributes)
            read: Any = lambda: PlateReader(root).wells  # noqa: E731
        case "well":
            root = plate(tmp_path, version, ["A"], ["1"], [("A/1", 0, 0)])
            group(root / "A" / "1", version, attributes)
            read = lambda: PlateReader(root).images("A01")  # noqa: E731
        case "image":
            root = group(tmp_path, version, attributes)
            read = lambda: ImageReader(root).axes  # noqa: E731
        case _:
            root = group(tmp_path, version, attributes)
            assert (not store_problems(root)) == valid
            return
    if valid:
        assert read()
    else:
        with pytest.raises(UnreadableError, match=r"(zarr\.json|zattrs)( |:)"):
            read()


@NEEDS_CASES
@pytest.mark.parametrize("file", examples())
def test_the_examples_of_the_specification_are_valid(file: Path) -> None:
    # the specification has comments in two of them
    document = json.loads(re.sub(r"(?m)//.*$", "", file.read_text()))
    attributes = document["attributes"] if "zarr_format" in document else document
    assert metadata_problems(attributes) == ()


def test_a_problem_says_where_and_what() -> None:
    attributes = {
        "plate": {
            "rows": [{"name": "A"}, {"name": "A"}],
            "columns": [{"name": "1"}],
            "wells": [
                {"path": "A/1", "rowIndex": 0, "columnIndex": 0},
                {"path": "B/1", "rowIndex": 7, "columnIndex": 0},
            ],
        }
    }
    assert [str(problem) for problem in metadata_problems(attributes)] == [
        "$.plate.rows: name 'A' is there more than once",
        "$.plate.wells[1].rowIndex: is 7 of 2 rows",
    ]
    assert "0.6" in str(metadata_problems({"ome": {"version": "0.6", "plate": {}}})[0])


@BOTH
@pytest.mark.parametrize(
    ("rows", "columns", "paths", "names"),
    [
        (["A", "B"], ["1", "2"], [("A/1", 0, 0), ("B/2", 1, 1)], ["A01", "B02"]),
        # padded, and only those rows and columns that are used
        (["C", "D"], ["05", "06"], [("D/05", 1, 0), ("C/06", 0, 1)], ["C06", "D05"]),
        # named otherwise: their order counts
        (["r1", "r2"], ["1", "2"], [("r2/1", 1, 0)], ["B01"]),
        (["A", "B"], ["x", "y"], [("A/y", 0, 1)], ["A02"]),
        (["AE", "AF"], ["48"], [("AF/48", 1, 0)], ["AF48"]),
    ],
)
def test_plates_of_others_are_read(
    tmp_path: Path, version: OmeVersion, rows: Any, columns: Any, paths: Any, names: Any
) -> None:
    root = plate(tmp_path / "p.zarr", version, rows, columns, paths)
    for number, (where, _, _) in enumerate(paths):
        well(root / where, version, {"path": "0"}, {"path": "f1", "acquisition": 3})
        image(root / where / "0", version, pixels(9, 7) + number)
    reader = PlateReader(root)
    assert reader.version == version
    assert reader.name == "p"
    assert list(reader.wells) == names
    assert reader.images(names[0]) == (ImageSlot("0", 0), ImageSlot("f1", 3))
    for where, row, column in paths:
        name = next(name for name in names if reader.folder(name) == root / where)
        assert reader.rows[row] == name.rstrip("0123456789")
        assert int(reader.columns[column]) == int(name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
        number = [path[0] for path in paths].index(where)
        np.testing.assert_array_equal(
            open_image(root, name, "0").read(), pixels(9, 7) + np.uint16(number)
        )
    assert list(read_plate(root).wells) == names
    with pytest.raises(NotStoredError, match="Z99"):
        reader.folder("Z99")


def test_the_indices_of_a_well_are_trusted_and_its_path_is_not(tmp_path: Path) -> None:
    # allowed by 0.4: the well of row B is kept in a folder called A
    root = plate(tmp_path, OmeVersion.V04, ["A", "B"], ["1"], [("A/1", 1, 0), ("B/1", 0, 0)])
    for where, value in (("A/1", 1), ("B/1", 2)):
        well(root / where, OmeVersion.V04, {"path": "0"})
        image(root / where / "0", OmeVersion.V04, np.full((4, 4), value, np.uint8))
    assert open_image(root, "B01", "0").read()[0, 0] == 1
    assert open_image(root, "A01", "0").read()[0, 0] == 2


@BOTH
def test_a_well_that_is_listed_and_not_there_is_an_error_of_that_well(
    tmp_path: Path, version: OmeVersion
) -> None:
    root = plate(tmp_path, version, ["A"], ["1", "2"], [("A/1", 0, 0), ("A/2", 0, 1)])
    well(root / "A/1", version, {"path": "0"}, {"path": "1"})
    image(root / "A/1/0", version, pixels(4, 5))
    reader = PlateReader(root)
    assert reader.open_image("A01", "0").shapes == ((4, 5),)
    with pytest.raises(NotStoredError, match="A/2"):
        reader.images("A02")
    with pytest.raises(NotStoredError, match="A/1/1"):
        reader.open_image("A01", "1")
    # and the checker names each of them
    said = [str(problem) for problem in store_problems(root)]
    assert any("A/1/1" in line for line in said)
    assert any("A/2" in line for line in said)


@BOTH
def test_images_of_others_are_read(tmp_path: Path, version: OmeVersion) -> None:
    whole = pixels(2, 3, 4, 30, 20)
    omero = {"channels": [{"window": {"min": 0, "max": 9, "start": 1, "end": 5}, "color": "FF00aa"}
                          for _ in range(3)]}  # fmt: skip
    ome = multiscale() | {"omero": omero}
    ome["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [5.0, 1.0, 1.0, 2.0, 1.0]}
    ]
    # chunks larger than a plane, and not of its shape
    path = image(tmp_path, version, whole, ome, chunks=(1, 3, 3, 16, 40))
    assert store_problems(path) == ()
    reader = ImageReader(path)
    assert reader.pixel_um == (1.3, 500.0)
    assert reader.z_um == 2.0
    assert reader.t_s is None
    assert reader.channels[2].name == "2"
    assert reader.channels[2].color == "FF00aa"
    assert reader.windows == ((1, 5),) * 3
    assert not reader.lossy
    np.testing.assert_array_equal(reader.read(t=1, c=2, z=3), whole[1, 2, 3])
    part = (slice(15, 18), slice(3, 20, 2))
    np.testing.assert_array_equal(reader.read(t=1, c=2, z=3, region=part), whole[1, 2, 3][part])


@BOTH
def test_an_image_says_where_it_is_and_what_its_chunks_went_through(
    tmp_path: Path, version: OmeVersion
) -> None:
    ome = multiscale()
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"].append(
        {"type": "translation", "translation": [0.0, 0.0, -4.0, 2000.0, 0.25]}
    )
    ome["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [1.0, 1.0, 2.0, 1.0, 1.0]},
        {"type": "translation", "translation": [0.0, 0.0, 1.0, 0.0, 1.0]},
    ]
    reader = ImageReader(image(tmp_path / "placed", version, pixels(1, 1, 2, 4, 5), ome))
    # z is scaled by 2 after it was moved, and y is in nm and x in mm
    assert [reader.origin_um(axis) for axis in "zyx"] == [-7.0, 2.0, 1250.0]
    assert reader.missing_planes == ()
    assert reader.codecs == (("zstd",) if version == "0.4" else ("bytes", "zstd"))
    nowhere = ImageReader(image(tmp_path / "nowhere", version, pixels(4, 5)))
    assert [nowhere.origin_um(axis) for axis in "zyx"] == [None, None, None]


@BOTH
@pytest.mark.parametrize("separator", ["/", "."])
def test_the_files_of_a_plane_are_those_that_hold_it(
    tmp_path: Path, version: OmeVersion, separator: str
) -> None:
    name = "default" if version is OmeVersion.V05 else "v2"
    path = image(
        tmp_path,
        version,
        pixels(2, 2, 3, 20, 30) + np.uint16(1),
        chunks=(1, 1, 2, 16, 16),
        chunk_key_encoding={"name": name, "separator": separator},
        compressors=None,
    )
    reader = ImageReader(path)
    assert reader.plain_chunk_bytes == 2 * 16 * 16 * 2
    everything = {
        file.relative_to(path / "0").as_posix()
        for file in (path / "0").rglob("*")
        if file.is_file() and file.name not in {"zarr.json", ".zarray", ".zattrs"}
    }
    named = {
        file
        for t in range(2)
        for c in range(2)
        for z in range(3)
        for file in reader.plane_files(t=t, c=c, z=z)
    }
    assert named == everything
    lost = reader.plane_files(t=1, c=0, z=2)
    assert len(lost) == 4
    for file in lost:
        (path / "0" / file).unlink()
    assert not reader.read(t=1, c=0, z=2).any()
    assert reader.read(t=1, c=0, z=1).all()


@BOTH
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<i4", ">f4", "f8", "f2", "u8", "?"])
def test_every_type_is_read_in_the_order_of_this_computer(
    tmp_path: Path, version: OmeVersion, dtype: str
) -> None:
    if version is OmeVersion.V05:
        dtype = dtype.lstrip("><")
    whole = np.arange(12).reshape(3, 4).astype(dtype)
    reader = ImageReader(image(tmp_path, version, whole))
    read = reader.read()
    assert reader.dtype == read.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, whole)


@pytest.mark.parametrize("compressor", [None, "gzip", "zstd", "blosc"])
def test_arrays_without_a_compressor_and_with_another_are_read(
    tmp_path: Path, compressor: str | None
) -> None:
    import numcodecs  # type: ignore[import-untyped]  # has no types
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

    old = {"gzip": numcodecs.GZip(), "zstd": numcodecs.Zstd(), "blosc": numcodecs.Blosc()}
    new = {"gzip": GzipCodec(), "zstd": ZstdCodec(), "blosc": BloscCodec()}
    for version, codecs in ((OmeVersion.V04, old), (OmeVersion.V05, new)):
        given: Any = () if compressor is None else (codecs[compressor],)
        path = image(tmp_path / version, version, pixels(50, 60), compressors=given)
        np.testing.assert_array_equal(ImageReader(path).read(), pixels(50, 60))


def test_chunks_named_with_dots_are_read_and_named_as_wrong(tmp_path: Path) -> None:
    dots = {"name": "v2", "separator": "."}
    path = image(tmp_path, OmeVersion.V04, pixels(2, 40, 30), chunk_key_encoding=dots,
                 chunks=(1, 16, 16))  # fmt: skip
    np.testing.assert_array_equal(ImageReader(path).read(z=1), pixels(2, 40, 30)[1])
    (problem,) = store_problems(path)
    assert str(problem) == "0/.zarray $.dimension_separator: is '.', and has to be '/'"


@BOTH
def test_an_image_without_a_description_of_channels_has_none(
    tmp_path: Path, version: OmeVersion
) -> None:
    reader = ImageReader(image(tmp_path, version, pixels(3, 4)))
    assert reader.axes == ("y", "x")
    described: Any = (reader.channels, reader.channel_names, reader.windows, reader.label_names)
    assert described == ((), (), (), ())
    np.testing.assert_array_equal(reader.read(), pixels(3, 4))
    with pytest.raises(LayoutError, match="no plane"):
        reader.read(z=1)


def test_an_axis_that_nobody_knows_is_said_and_not_guessed(tmp_path: Path) -> None:
    axes: list[Any] = [{"name": "angle"}, *AXES[-2:]]
    path = image(tmp_path, OmeVersion.V04, pixels(3, 4, 5), multiscale(axes=axes))
    with pytest.raises(LayoutError, match="angle"):
        ImageReader(path).read()
    path = image(tmp_path / "1", OmeVersion.V04, pixels(1, 4, 5), multiscale(axes=axes))
    np.testing.assert_array_equal(ImageReader(path).read(), pixels(1, 4, 5)[0])


def test_labels_are_written_below_an_image_of_others(tmp_path: Path) -> None:
    for version in VERSIONS:
        root = plate(tmp_path / version, version, ["A"], ["01"], [("A/01", 0, 0)])
        group(root / "A", version, {})
        well(root / "A/01", version, {"path": "0"})
        image(root / "A/01/0", version, pixels(2, 40, 30))
        with LabelsWriter(root, "A01", "0", "cells", "u4") as labels:
            for z in range(2):
                labels.write_plane(np.full((40, 30), z + 1, np.uint32), z=z)
            labels.commit()
        reader = open_image(root, "A01", "0")
        assert reader.label_names == ("cells",)
        assert reader.labels("cells").is_labels
        assert (reader.labels("cells").read(z=1) == 2).all()
        assert store_problems(root) == ()


def test_what_is_of_another_version_or_kind_says_so(tmp_path: Path) -> None:
    cases = {
        "0.6": (OmeVersion.V05, {"ome": {"version": "0.6.dev1", **multiscale()}}, "0.6.dev1"),
        "old in v3": (OmeVersion.V05, multiscale(), "0.4 in Zarr v3"),
        "new in v2": (OmeVersion.V04, {"ome": {"version": "0.5"}}, "0.5|nothing of OME-Zarr"),
        "collection": (OmeVersion.V04, {"bioformats2raw.layout": 3}, "one of the images in it"),
        "plate": (OmeVersion.V04, plate_attributes(), "one of its wells"),
        "nothing": (OmeVersion.V04, {"mine": 1}, "nothing of OME-Zarr"),
        "swapped axes": (OmeVersion.V04, multiscale(axes=[AXES[4], AXES[3]]), "z comes before y"),
    }
    for name, (version, attributes, reason) in cases.items():
        path = group(tmp_path / name, version, attributes)
        with pytest.raises(UnreadableError, match=reason):
            ImageReader(path)


def plate_attributes() -> dict[str, Any]:
    wells = [{"path": "A/1", "rowIndex": 0, "columnIndex": 0}]
    return {"plate": {"rows": [{"name": "A"}], "columns": [{"name": "1"}], "wells": wells}}


@BOTH
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "[]",
        "",
        "\x00\xff",
        '{"zarr_format": 3, "node_type": "group", "attributes": {"ome": []}}',
        '{"zarr_format": 3, "node_type": "group", "attributes": 7}',
        '{"zarr_format": 3, "node_type": "array"}',
    ],
)
def test_documents_that_are_none_are_errors_that_name_the_file(
    tmp_path: Path, version: OmeVersion, text: str
) -> None:
    group(tmp_path, version, {})
    file = "zarr.json" if version is OmeVersion.V05 else ".zattrs"
    (tmp_path / file).write_bytes(text.encode("latin-1"))
    for read in (ImageReader, PlateReader):
        with pytest.raises(UnreadableError, match=file.removeprefix(".")):
            read(tmp_path)


@BOTH
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_in_place_of_a_document_is_refused_and_not_waited_for(
    tmp_path: Path, version: OmeVersion
) -> None:
    group(tmp_path, version, {})
    for file in ("zarr.json",) if version is OmeVersion.V05 else (".zgroup", ".zattrs"):
        (tmp_path / file).unlink()
        os.mkfifo(tmp_path / file)
        for read in (ImageReader, PlateReader):
            with pytest.raises(UnreadableError, match=f"{file} cannot be read: .*ordinary"):
                read(tmp_path)
        (tmp_path / file).unlink()
        group(tmp_path, version, {})


@BOTH
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, 0, "1", None, True, [1]])
def test_factors_that_are_no_numbers_are_named(
    tmp_path: Path, version: OmeVersion, number: Any
) -> None:
    ome = multiscale(axes=AXES[-2:])
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"] = [1, number]
    path = group(tmp_path, version, stamped(version, ome))
    with pytest.raises(UnreadableError, match=r"coordinateTransformations\[0\].scale"):
        ImageReader(path)


@BOTH
def test_paths_that_lead_out_of_a_store_are_not_followed(
    tmp_path: Path, version: OmeVersion
) -> None:
    secret = image(tmp_path / "secret", version, pixels(4, 4))
    for number, wrong in enumerate(("../../secret/0", str(secret / "0"), "a/../../secret/0", "")):
        ome = multiscale(wrong, axes=AXES[-2:])
        path = group(tmp_path / "store" / str(number), version, stamped(version, ome))
        with pytest.raises(UnreadableError, match="leads out"):
            ImageReader(path)
    # neither by a link
    linked = group(tmp_path / "linked", version, stamped(version, multiscale("0", axes=AXES[-2:])))
    (linked / "0").symlink_to(secret / "0")
    with pytest.raises(UnreadableError, match="is a link to"):
        ImageReader(linked).read()
    root = plate(tmp_path / "plate", version, ["A"], ["1"], [("A/1", 0, 0)])
    (root / "A").mkdir()
    (root / "A" / "1").symlink_to(secret)
    with pytest.raises(UnreadableError, match="is a link to"):
        PlateReader(root).images("A01")
    assert any("link" in str(problem) for problem in store_problems(root))
    well_ = well(root / "A" / "2", version, {"path": "0"})
    (well_ / "0").symlink_to(well_)  # a link that stays inside is followed
    for name in ("..", "../..", "/etc", "a\\b"):
        with pytest.raises(StorageError):
            open_image(root, "A01", name)
    # a whole plate may be reached by a link
    reached = tmp_path / "reached"
    reached.symlink_to(secret)
    np.testing.assert_array_equal(ImageReader(reached).read(), pixels(4, 4))


def array_of(path: Path, version: OmeVersion, **changed: Any) -> None:
    file = path / "0" / ("zarr.json" if version is OmeVersion.V05 else ".zarray")
    document = json.loads(file.read_text()) | changed
    file.write_text(json.dumps(document))


@BOTH
@pytest.mark.parametrize(
    "shape",
    [[2**60, 4], [-1, 4], [4.0, 4], ["4", 4], [4], [4, 4, 4], None, [2**70, 2], [True, True]],
)
def test_shapes_that_cannot_be_are_errors_before_anything_is_read(
    tmp_path: Path, version: OmeVersion, shape: Any
) -> None:
    path = image(tmp_path, version, pixels(4, 4))
    array_of(path, version, shape=shape)
    with pytest.raises(UnreadableError, match=r"zarr|shape"):
        ImageReader(path).read()


@BOTH
def test_chunks_and_planes_that_would_fill_the_memory_are_refused(
    tmp_path: Path, version: OmeVersion
) -> None:
    path = image(tmp_path, version, pixels(4, 4))
    side = 2**20  # 1 TiB of 8-bit pixels, or twice that
    if version is OmeVersion.V05:
        grid = {"name": "regular", "configuration": {"chunk_shape": [side, side]}}
        array_of(path, version, shape=[side, side], chunk_grid=grid)
    else:
        array_of(path, version, shape=[side, side], chunks=[side, side])
    with pytest.raises(UnreadableError, match="bytes each"):
        ImageReader(path).read()
    path = image(tmp_path / "many", version, pixels(4, 4))
    array_of(path, version, shape=[side, side])
    reader = ImageReader(path)
    with pytest.raises(LayoutError, match="read a region"):
        reader.read()
    np.testing.assert_array_equal(reader.read(region=(slice(0, 4), slice(0, 4))), pixels(4, 4))
    assert not reader.read(region=(slice(side - 3, side), slice(side - 3, side))).any()


def test_shards_that_do_not_hold_their_chunks_are_refused(tmp_path: Path) -> None:
    version = OmeVersion.V05
    for number, inner in enumerate(([3, 4], [0, 4], [4], [1, 1])):
        path = image(tmp_path / str(number), version, pixels(8, 8), chunks=(4, 4), shards=(8, 8))
        file = path / "0" / "zarr.json"
        document = json.loads(file.read_text())
        document["codecs"][0]["configuration"]["chunk_shape"] = inner
        if inner == [1, 1]:  # an index that would take 16 TiB
            document["chunk_grid"]["configuration"]["chunk_shape"] = [2**20, 2**20]
        file.write_text(json.dumps(document))
        with pytest.raises(UnreadableError, match=r"shards|chunks"):
            ImageReader(path).read()


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_a_store_cannot_have_anything_unpickled(tmp_path: Path) -> None:
    from pickle import dumps  # noqa: TID251  # what an attacker would write

    path = image(tmp_path / "image", OmeVersion.V04, pixels(4, 4))
    made = tmp_path / "made"
    (path / "0" / "0").mkdir(exist_ok=True)
    (path / "0" / "0" / "0").unlink()
    (path / "0" / "0" / "0").write_bytes(dumps(Touch(made)))
    for changed in (
        {"filters": [{"id": "pickle"}], "dtype": "|O", "compressor": None},
        {"filters": [{"id": "pickle"}], "compressor": None},
        {"compressor": {"id": "pickle"}},
        {"compressor": {"id": "msgpack2"}},
        {"dtype": "|O"},
        {"dtype": [["a", "<u2"]]},
    ):
        array_of(path, OmeVersion.V04, **changed)
        with pytest.raises(UnreadableError, match=r"codec|type"):
            ImageReader(path).read()
    assert not made.exists()
    path = image(tmp_path / "other", OmeVersion.V05, pixels(4, 4))
    for codec in ("pickle", "numcodecs.pickle", "vlen-bytes", 7, None):
        array_of(path, OmeVersion.V05, codecs=[{"name": codec}])
        with pytest.raises(UnreadableError, match="codec"):
            ImageReader(path).read()


@BOTH
def test_a_chunk_that_is_damaged_is_an_error_that_names_the_folder(
    tmp_path: Path, version: OmeVersion
) -> None:
    path = image(tmp_path, version, pixels(40, 40))
    file = path / "0" / ("c/0/0" if version is OmeVersion.V05 else "0/0")
    content = file.read_bytes()
    # cut off, empty, noise, and one that says of itself to be 16 EiB in zstd
    for damaged in (content[:20], b"", bytes(200), bytes.fromhex("28b52ffde0") + b"\xff" * 9):
        file.write_bytes(damaged)
        with pytest.raises(UnreadableError, match="cannot be read"):
            ImageReader(path).read()


def test_the_checker_names_what_does_not_agree(tmp_path: Path) -> None:
    version = OmeVersion.V05
    path = image(tmp_path, version, pixels(2, 8, 8), multiscale("0", "1", axes=AXES[-3:]))
    array_of(path, version, dimension_names=["z", "x", "y"])
    zarr.create_array(path / "1", shape=(2, 16, 4), dtype="u2", dimension_names=["z", "y", "x"])
    group(path / "labels", version, stamped(version, {"labels": ["cells", "gone"]}))
    labels = multiscale("0", axes=AXES[-3:]) | {"image-label": {}}
    image(path / "labels" / "cells", version, np.zeros((2, 8, 8), np.float32), labels)
    said = {str(problem) for problem in store_problems(path)}
    expected = {
        "0/zarr.json $.dimension_names: are ['z', 'x', 'y'], the axes are ['z', 'y', 'x']",
        "1/zarr.json $.shape: is larger than that of the level before",
        "labels/cells/zarr.json $.image-label: is of float32: labels are integers",
        "labels/cells $.multiscales[0].datasets: has 1 levels, its image has 2",
    }
    assert expected <= said
    (gone,) = said - expected
    assert "labels/gone" in gone
    (path / "labels" / "loop").symlink_to(path)
    group(path / "labels", version, stamped(version, {"labels": ["loop"]}))
    assert store_problems(path)  # and comes to an end
    with pytest.raises(NotStoredError):
        store_problems(tmp_path / "nothing")
