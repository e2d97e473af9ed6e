from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from zmqruntime.execution import (
    ExecutionStatus,
    History,
    JobEvent,
    JobRecord,
    JournalCorruptError,
    JournalError,
    JournalFullError,
    JournalInUseError,
    JournalVersionError,
    UnitOutcome,
)
from zmqruntime.execution._journal import Journal
from zmqruntime.execution._journal_file import SCHEMA
from zmqruntime.execution._journal_reader import JournalReader
from zmqruntime.execution._record import NewJob

if TYPE_CHECKING:
    from pathlib import Path

S = ExecutionStatus


def accept(journal: Journal, count: int = 1, **fields: Any) -> list[JobRecord]:
    records = []
    with journal.transaction(durable=True):
        for _ in range(count):
            seq = journal.next_seq()
            record = JobRecord(
                **{"id": f"job-{seq}", "seq": seq, "kind": "count", "state": S.QUEUED, **fields}
            )
            journal.accept(record, NewJob(kind="count", payload={"plate": seq}, key=record.key))
            records.append(record)
    return records


def finish(journal: Journal, record: JobRecord, ended: float = 10.0) -> JobRecord:
    done = replace(record, state=S.COMPLETED, ended=ended)
    with journal.transaction(durable=True):
        journal.update(done, result=b"\xa4done")
    return done


@pytest.mark.req("B.15")
def test_what_was_written_is_there_after_a_restart_in_order(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    with Journal(path) as journal:
        first, second, third = accept(journal, 3, priority=2, client="me", deadline=1.5)
        server_id, epoch = journal.server_id, journal.epoch
        finish(journal, second)
    with Journal(path) as journal:
        assert (journal.server_id, journal.epoch) == (server_id, epoch + 1)
        assert journal.unfinished() == [first, third]
        assert journal.payload(third.seq) == b"\x81\xa5plate\x03"
        (fourth,) = accept(journal)
        assert fourth.seq == 4


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db") as journal:
        (record,) = accept(journal)
        twice = replace(record, seq=9)  # of the same name, which cannot be
        with pytest.raises(JournalError, match="UNIQUE"), journal.transaction(durable=True):
            journal.accept(twice, NewJob(kind="count"))
        assert journal.unfinished() == [record]


@pytest.mark.parametrize("damage", ["head", "middle", "cut", "text", "other"])
def test_a_damaged_file_is_named_and_left_as_it_is(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "jobs.db"
    with Journal(path) as journal:
        accept(journal, 300)
    content = bytearray(path.read_bytes())
    if damage == "head":
        content[:16] = b"not a database.."
    elif damage == "middle":
        content[4096 * 3 : 4096 * 6] = os.urandom(4096 * 3)
    elif damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "text":
        content = bytearray(b"my shopping list\n")
    path.write_bytes(content)
    if damage == "other":
        path.unlink()
        with closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE recipes (name)")
        content = bytearray(path.read_bytes())
    with pytest.raises(JournalCorruptError, match=str(path)) as caught:
        Journal(path)
    assert caught.value.path == path
    assert path.read_bytes() == content


def test_a_file_of_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    Journal(path).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("UPDATE meta SET schema = ?", (SCHEMA + 1,))
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = path.read_bytes()
    with pytest.raises(JournalVersionError, match=f"version {SCHEMA + 1}"):
        Journal(path)
    assert path.read_bytes() == content


def test_two_servers_cannot_have_one_journal(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "jobs.db"),
        pytest.raises(JournalInUseError, match=f"process {os.getpid()}"),
    ):
        Journal(tmp_path / "jobs.db")


def test_the_journal_of_a_killed_server_is_free(tmp_path: Path) -> None:
    path = tmp_path / "jobs.db"
    code = (
        "import os, sys; from pathlib import Path\n"
        "from zmqruntime.execution._journal import Journal\n"
        "journal = Journal(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], check=False)
    assert done.returncode == -9
    with Journal(path) as journal:
        assert journal.epoch == 2


def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "jobs.db") as journal:
        accept(journal)
        files = sorted(path.name for path in (tmp_path / "deep").iterdir())
        assert files == ["jobs.db", "jobs.db-shm", "jobs.db-wal"]
        for name in files:
            assert (tmp_path / "deep" / name).stat().st_mode & 0o077 == 0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["jobs.db"]


def test_a_folder_that_cannot_be_is_an_error_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"file/jobs\.db"):
        Journal(tmp_path / "file" / "jobs.db")


FULL = """
import resource, sys
from pathlib import Path
from zmqruntime.execution import JobRecord, JournalFullError
from zmqruntime.execution._journal import Journal
from zmqruntime.execution._record import NewJob

journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * 1024, resource.RLIM_INFINITY))
accepted = 0
try:
    while True:
        with journal.transaction(durable=True):
            seq = journal.next_seq()
            journal.accept(
                JobRecord(id=f"job-{seq}", seq=seq, kind="count", state="queued"),
                NewJob(kind="count", payload="x" * 3000),
            )
        accepted += 1
except JournalFullError as error:
    assert "make room" in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert len(journal.unfinished()) == accepted
with journal.transaction(durable=True):
    seq = journal.next_seq()
    journal.accept(
        JobRecord(id="last", seq=seq, kind="count", state="queued"), NewJob(kind="count")
    )
print(accepted)
"""


def test_a_full_disk_is_an_error_and_takes_nothing_by_half(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "jobs.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with Journal(tmp_path / "jobs.db") as journal:
        found = [record.id for record in journal.unfinished()]
    assert len(found) == int(done.stdout) + 1 > 10
    assert found[-1] == "last"
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


@pytest.mark.req("F.18")
def test_history_is_bounded_by_number_and_what_waits_is_not_history(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db", history=History(jobs=5)) as journal:
        (waiting,) = accept(journal)
        for record in accept(journal, 12):
            finish(journal, record, ended=1e12)
            with journal.transaction(durable=False):
                journal.add_events(record.seq, [JobEvent(seq=1, time=0, kind="state")])
                journal.add_log(record.seq, 0, b"text")
        with journal.transaction(durable=True):
            assert journal.prune() == {"completed": 7}
        assert journal.counts() == {"completed": 5, "queued": 1}
        assert journal.unfinished() == [waiting]
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as file:
        for table in ("events", "logs"):
            assert file.execute(f"SELECT count(*) FROM {table}").fetchone() == (5,)


def test_history_is_bounded_by_age(tmp_path: Path) -> None:
    now = [100 * 86_400.0]
    path = tmp_path / "jobs.db"
    with Journal(path, history=History(days=30), clock=lambda: now[0]) as journal:
        old, young = accept(journal, 2, key=None)
        (keyed,) = accept(journal, key="plate 7", client="me")
        finish(journal, old, ended=now[0] - 31 * 86_400)
        finish(journal, young, ended=now[0] - 29 * 86_400)
        finish(journal, keyed, ended=now[0] - 31 * 86_400)
        with journal.transaction(durable=True):
            journal.prune()
        assert journal.record(old.seq) is None
        assert journal.record(young.seq) is not None
        known = journal.known("me", "plate 7")
        assert known is not None, "a key is answered after its job is forgotten"
        assert known.id == keyed.id
        now[0] += 31 * 86_400
        with journal.transaction(durable=True):
            journal.prune()
        assert journal.known("me", "plate 7") is None


@pytest.mark.req("B.8")
def test_a_key_is_answered_for_as_long_after_the_end_of_its_job_as_a_job_is_kept(
    tmp_path: Path,
) -> None:
    now = [100 * 86_400.0]
    history = History(jobs=1, days=30)
    with Journal(tmp_path / "jobs.db", history=history, clock=lambda: now[0]) as journal:

        def later(days: float) -> bool:
            now[0] += days * 86_400
            with journal.transaction(durable=True):
                journal.prune()
            return journal.known("me", "plate 7") is not None

        (keyed,) = accept(journal, key="plate 7", client="me")
        assert later(40), "its job is not over"
        finish(journal, keyed, ended=now[0])
        assert later(1)
        for other in accept(journal, 2):
            finish(journal, other, ended=now[0])
        assert later(28)
        assert journal.record(keyed.seq) is None, "others have taken its place"
        assert later(0.9)
        assert not later(0.2)


def test_after_a_crash_no_number_is_given_twice(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db") as journal:
        before = accept(journal, 3)
        for name in ("jobs.db", "jobs.db-wal"):  # as a killed server leaves them
            (tmp_path / f"left.{name}").write_bytes((tmp_path / name).read_bytes())
    for name in ("jobs.db", "jobs.db-wal"):
        (tmp_path / f"left.{name}").rename(tmp_path / name)
    with closing(sqlite3.connect(tmp_path / "jobs.db")) as file, file:
        file.execute("UPDATE meta SET owner = ''")  # its process has ended
    with Journal(tmp_path / "jobs.db") as journal:
        after = accept(journal, 3)
        assert [record.seq for record in journal.unfinished()] == [
            record.seq for record in (*before, *after)
        ]
        assert after[0].seq > before[-1].seq


def test_a_clock_that_is_set_back_breaks_no_order_and_forgets_nothing(tmp_path: Path) -> None:
    now = [2e9]
    with Journal(tmp_path / "jobs.db", clock=lambda: now[0]) as journal:
        (first,) = accept(journal, submitted=now[0])
        now[0] = 1e9
        (second,) = accept(journal, submitted=now[0])
        finish(journal, first, ended=now[0])
        with journal.transaction(durable=True):
            assert journal.prune() == {}
        assert [record.id for record in journal.unfinished()] == [second.id]
        assert first.seq < second.seq
        with closing(JournalReader(tmp_path / "jobs.db")) as reader:
            assert [each.id for each in reader.page()] == [second.id, first.id]


def test_of_many_events_the_latest_and_all_states_are_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db", history=History(events=10)) as journal:
        (record,) = accept(journal)
        events = [
            JobEvent(seq=n, time=0.0, kind="state" if n in (1, 2, 50) else "progress", unit=f"{n}")
            for n in range(1, 51)
        ]
        with journal.transaction(durable=False):
            journal.add_events(record.seq, events)
        with closing(JournalReader(tmp_path / "jobs.db")) as reader:
            kept = reader.events(record.seq)
            assert [event.seq for event in kept] == [1, 2, *range(43, 51)]
            assert reader.events(record.seq, after=44, limit=2) == events[44:46]


def test_a_log_is_read_in_pieces_and_forgets_its_beginning(tmp_path: Path) -> None:
    text = bytes(range(256)) * 40
    with Journal(tmp_path / "jobs.db", history=History(log_bytes=4000)) as journal:
        (record,) = accept(journal)
        for start in range(0, len(text), 100):
            with journal.transaction(durable=False):
                journal.add_log(record.seq, start, text[start : start + 100])
        assert journal.log_size(record.seq) == len(text)
        with closing(JournalReader(tmp_path / "jobs.db")) as reader:
            start, found = 0, b""
            while True:
                piece = reader.log(record.seq, start=start, most_bytes=777)
                assert len(piece.text) <= 777
                if not piece.text:
                    break
                if not found:  # rows are dropped whole, so a little more is kept
                    assert len(text) - 4100 <= piece.start <= len(text) - 4000
                    first = piece.start
                found += piece.text
                start = piece.start + len(piece.text)
            assert found == text[first:]
            assert piece.size == len(text)


def test_units_are_read_in_the_order_in_which_they_came_page_by_page(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db") as journal:
        (record,) = accept(journal)
        outcomes = [
            UnitOutcome(unit=f"unit {9 - n}", ok=n != 3, value=None if n == 3 else n)
            for n in range(9)
        ]
        with journal.transaction(durable=False):
            journal.add_units(record.seq, 1, outcomes)
        with closing(JournalReader(tmp_path / "jobs.db")) as reader:
            found, after = reader.units(record.seq, limit=4)
            while after is not None:
                more, after = reader.units(record.seq, after=after, limit=4)
                found += more
        assert found == outcomes
        assert journal.outcomes(record.seq)["unit 6"] is False


def test_reading_does_not_wait_for_writing(tmp_path: Path) -> None:
    with Journal(tmp_path / "jobs.db") as journal:
        (record,) = accept(journal)
        with closing(JournalReader(tmp_path / "jobs.db")) as reader:
            found: list[JobRecord | None] = []
            with journal.transaction(durable=True):
                journal.update(replace(record, state=S.RUNNING))
                reading = threading.Thread(target=lambda: found.append(reader.record(record.id)))
                reading.start()
                reading.join(10)
            assert found == [record]
            after = reader.record(record.id)
            assert after is not None
            assert after.state is S.RUNNING


def test_history_that_keeps_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="jobs is 0"):
        History(jobs=0)


def test_a_full_journal_error_is_an_os_error() -> None:
    assert issubclass(JournalFullError, OSError)
