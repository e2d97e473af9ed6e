"""Damage to synthetic plates: there, written down, and nothing else touched."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from openhcs.cli import main
from openhcs.plates import open_plate
from openhcs.testing import Fault, FaultKind, PlateTruth, decode_stamp, read_truth, synthetic_plate
from openhcs.testing.formats import ImageXpressDatabase, ImageXpressExport, Phenix

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LAYOUTS = (ImageXpressExport, ImageXpressDatabase, Phenix)
CHANGES_INDEX = {"swapped-label", "path-escape", "duplicate-key", "error-record"}
OF_INDEX_ALONE = {"swapped-label", "error-record"}
FORMATS = [layout.name for layout in LAYOUTS]
CASES = [(layout.name, kind) for layout in LAYOUTS for kind in layout.faults]


def make(
    folder: Path, layout: str, faults: Sequence[Fault | FaultKind], seed: int = 3
) -> PlateTruth:
    return synthetic_plate(
        folder / "plate",
        format=layout,
        wells=("A01", "B02"),
        grid=(1, 2),
        size_px=64,
        z=2,
        stamp=True,
        faults=faults,
        seed=seed,
    )


@pytest.mark.parametrize(("layout", "kind"), CASES)
def test_a_fault_is_done_and_written_down(tmp_path: Path, layout: str, kind: FaultKind) -> None:
    whole = make(tmp_path / "whole", layout, ())
    truth = make(tmp_path / "damaged", layout, (kind,))
    assert read_truth(truth.folder).faults == truth.faults
    assert len(truth.faults) == (2 if (layout, kind) == ("phenix", "swapped-label") else 1)
    fault = truth.faults[0]
    assert fault.kind == kind
    before = dict(zip(whole.planes["path"].tolist(), whole.planes["sha256"].tolist(), strict=True))
    after = dict(zip(truth.planes["path"].tolist(), truth.planes["sha256"].tolist(), strict=True))
    changed = {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    index = "Images/Index.idx.xml"
    if layout == "phenix" and kind in CHANGES_INDEX:
        assert index in changed
        changed.remove(index)
    else:
        assert index not in changed or kind == "corrupt-metadata"
    assert len(changed) == (0 if layout == "phenix" and kind in OF_INDEX_ALONE else 1)
    for path, digest in after.items():
        file = truth.folder / path
        if digest:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == digest
        else:
            assert not file.exists()
    on_disk = {p.relative_to(truth.folder).as_posix() for p in truth.folder.rglob("*.*")}
    assert {path for path in on_disk if "." in path.rsplit("/", 1)[-1]} == {
        path for path, digest in after.items() if digest
    }

    damaged = truth.folder / fault.path
    match kind:
        case "missing-plane" | "path-escape":
            assert not damaged.exists()
        case "empty-file":
            assert damaged.stat().st_size == 0
        case "truncated":
            assert 0 < damaged.stat().st_size < (whole.folder / fault.path).stat().st_size
        case "wrong-dtype":
            assert tifffile.imread(damaged).dtype == np.uint8
        case "wrong-size":
            assert tifffile.imread(damaged).shape == (48, 40)
        case "duplicate-content":
            twins = [path for path, digest in after.items() if digest == after[fault.path]]
            assert len(twins) == 2
            assert decode_stamp(tifffile.imread(damaged)).key.channel != fault.channel
        case "duplicate-key":
            (extra,) = changed
            assert truth.planes["kind"].tolist().count("duplicate") == 1
            assert extra.rsplit("/", 1)[0] == fault.path.rsplit("/", 1)[0] or "/" not in extra
        case "foreign-file":
            assert fault.well == ""
            assert damaged.name == "overview.tif"
        case "unlisted-file":
            assert damaged.name.startswith("r0")
            assert damaged.name[6:9] == "f03"
            assert damaged.name not in (truth.folder / index).read_text("utf-8-sig")
        case "swapped-label" if layout != "phenix":
            with tifffile.TiffFile(damaged) as file:
                root = file.metaseries_metadata
            assert root is not None
            assert not root["PlaneInfo"]["stage-label"].startswith(fault.well)
        case "swapped-label":
            text = (truth.folder / index).read_text("utf-8-sig")
            ET.fromstring(text)
            first, second = (f"<URL>{other.path[7:]}</URL>" for other in truth.faults)
            original = (whole.folder / index).read_text("utf-8-sig")
            assert (text.index(first) < text.index(second)) != (
                original.index(first) < original.index(second)
            )
        case "error-record":
            assert (truth.folder / index).read_text("utf-8-sig").count("Failed") == 1
        case _:
            if layout == "phenix":
                assert damaged.name == "Index.idx.xml"
                broken = damaged.read_text("utf-8-sig")
            else:
                with tifffile.TiffFile(damaged) as file:
                    broken = str(file.pages.first.tags[270].value)
            with pytest.raises(ET.ParseError):
                ET.fromstring(broken)
    if kind == "path-escape":
        assert "<URL>../../outside.tif</URL>" in (truth.folder / index).read_text("utf-8-sig")


@pytest.mark.parametrize("layout", FORMATS)
def test_several_faults_hit_different_planes_and_the_ones_asked_for(
    tmp_path: Path, layout: str
) -> None:
    asked = Fault(kind="missing-plane", well="B02", field=1, channel=0, z=1)
    truth = make(tmp_path, layout, ("empty-file", asked, "truncated", "missing-plane"))
    assert [fault.kind for fault in truth.faults] == [
        "empty-file",
        "missing-plane",
        "truncated",
        "missing-plane",
    ]
    assert len({fault.path for fault in truth.faults}) == 4
    hit = truth.faults[1]
    assert (hit.well, hit.field, hit.channel, hit.z, hit.t) == ("B02", 1, 0, 1, 0)
    assert [fault.code for fault in truth.faults[:3]] == [
        "EMPTY_FILE",
        "MISSING_PLANE",
        "UNREADABLE",
    ]


def test_a_fault_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="imagexpress cannot have the fault path-escape"):
        make(tmp_path / "a", "imagexpress", ("path-escape",))
    with pytest.raises(ValueError, match="no whole plane left"):
        make(tmp_path / "b", "imagexpress", (Fault(kind="empty-file", well="H12"),))
    with pytest.raises(ValueError, match="is no fault; known are missing-plane"):
        make(tmp_path / "c", "imagexpress", ("mising-plane",))  # type: ignore[arg-type]  # a typing error of a user
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "c").exists()


def test_the_command_damages_a_plate_and_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synth", str(tmp_path / "p"), "--wells", "A01-A03", "--size-px", "64", "--grid", "1x1"]
    words += ["--single-plane", "DAPI", "--faults", "missing-plane,truncated", "--z", "2"]
    assert main(words) == 0
    told = capsys.readouterr().out
    index = open_plate(tmp_path / "p", cache=False)
    done = dict(re.findall(r"^([a-z-]+): (\S+\.TIF)$", told, re.MULTILINE))
    assert set(done) == {"missing-plane", "truncated"}
    assert not (tmp_path / "p" / done["missing-plane"]).exists()
    assert "MISSING_PLANE" in [finding.code for finding in index.findings]
    whole = max(path.stat().st_size for path in (tmp_path / "p").rglob("*.TIF"))
    assert (tmp_path / "p" / done["truncated"]).stat().st_size < whole
    assert index.select(channels=[0]).z == (0,)
    assert index.select(channels=[1]).z == (0, 1)
