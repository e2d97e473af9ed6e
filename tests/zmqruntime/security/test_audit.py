from __future__ import annotations

import json
import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from zmqruntime import KeyFileError
from zmqruntime.security import Audit, AuditLine, audit_path
from zmqruntime.testing import FakeClock


def line(text: str = "", **more: object) -> AuditLine:
    return AuditLine(time=1.5, who="desk", what="snap", verdict="ok", text=text, **more)  # type: ignore[arg-type]


@pytest.mark.req("S.14")
def test_a_line_is_one_json_object_with_what_is_known(folder: Path) -> None:
    audit = Audit(folder / "audit" / "log.jsonl")
    audit.write(line(capability="call:camera.snap", trace="i-7", version=3, ms=0.25))
    audit.write(AuditLine(time=2.0))
    audit.close()
    lines = [json.loads(each) for each in audit.path.read_text().splitlines()]
    assert lines == [
        {
            "time": 1.5,
            "who": "desk",
            "what": "snap",
            "capability": "call:camera.snap",
            "verdict": "ok",
            "trace": "i-7",
            "version": 3,
            "ms": 0.25,
        },
        {"time": 2.0},
    ]
    assert stat.S_IMODE(audit.path.stat().st_mode) == 0o600


def test_nothing_that_a_peer_says_breaks_a_line_or_makes_it_endless(folder: Path) -> None:
    audit = Audit(folder / "log.jsonl")
    audit.write(line('"}\n{"who":"forged"}' * 100, trace="x\r\n" * 1000))
    audit.close()
    (only,) = audit.path.read_text().splitlines()
    assert json.loads(only)["who"] == "desk"
    assert len(only) < 2000


@pytest.mark.req("S.14")
def test_the_log_is_kept_within_bounds(folder: Path) -> None:
    audit = Audit(folder / "log.jsonl", max_bytes=2048, keep=2)
    for number in range(200):
        assert audit.write(line(f"{number:0100d}"))
    audit.close()
    files = sorted(folder.iterdir())
    assert [each.name for each in files] == ["log.jsonl", "log.jsonl.1", "log.jsonl.2"]
    assert all(each.stat().st_size <= 2048 for each in files)
    newest = [json.loads(each)["text"] for each in files[0].read_text().splitlines()]
    older = [json.loads(each)["text"] for each in files[1].read_text().splitlines()]
    assert int(newest[-1]) == 199
    assert int(older[-1]) + 1 == int(newest[0])


@pytest.mark.req("S.14")
def test_a_full_disk_is_said_and_counted_and_the_log_goes_on_after_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    audit = Audit(folder / "log.jsonl", clock=clock)
    assert audit.write(line("before"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (audit.path.stat().st_size + 20, hard))
    try:
        written = [audit.write(line("lost")) for _ in range(3)]
        clock.advance(61.0)
        written.append(audit.write(line("lost")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert written == [False] * 4
    assert audit.lost == 4
    assert caplog.text.count("cannot be written") == 2  # once a minute
    assert audit.write(line("after"))
    audit.close()
    assert not audit.write(line("closed"))
    texts = []
    for each in audit.path.read_text().splitlines():
        try:
            texts.append(json.loads(each)["text"])
        except json.JSONDecodeError:
            continue  # what fitted of the first lost line
    assert texts == ["before", "after"]
    assert "is written again" in caplog.text


def test_lines_of_many_threads_do_not_mix(folder: Path) -> None:
    audit = Audit(folder / "log.jsonl", max_bytes=64 * 1024, keep=9)
    threads = [
        threading.Thread(target=lambda n=n: [audit.write(line(f"{n}-{i}")) for i in range(200)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.close()
    lines = [each for path in folder.iterdir() for each in path.read_text().splitlines()]
    assert len({json.loads(each)["text"] for each in lines}) == 1600


def test_a_log_that_cannot_be_opened_is_an_error_at_once(folder: Path) -> None:
    (folder / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(KeyFileError, match=r"log\.jsonl"):
        Audit(folder / "log.jsonl")
    with pytest.raises(ValueError, match="1 KiB"):
        Audit(folder / "other.jsonl", max_bytes=10)


def test_every_service_has_a_log_of_its_own() -> None:
    base = Path(os.environ["XDG_STATE_HOME"])
    assert audit_path("engine", 8765) == base / "zmqruntime" / "audit" / "engine-8765.jsonl"
