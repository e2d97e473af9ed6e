from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zmqruntime.session._journal import Journal
from zmqruntime.session._state import Entry

if TYPE_CHECKING:
    from pathlib import Path

GAMMA = ("layer", "layer-0", "gamma")


def test_a_block_that_breaks_leaves_nothing_behind_and_the_next_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "sessions.db")

    def break_off() -> None:
        with journal.writing():
            journal.write_property(GAMMA, Entry(1.0, 1, "a"))
            journal.write_property(("layer", "lost\udcff", "gamma"), Entry(1.0, 2, "a"))

    with pytest.raises(UnicodeEncodeError):
        break_off()
    with journal.writing():
        journal.write_property(GAMMA, Entry(2.0, 3, "a"))
    assert not journal.failed
    journal.close()
    again = Journal(tmp_path / "sessions.db")
    assert again.properties() == [(GAMMA, Entry(2.0, 3, "a"))]
    again.close()


def test_answers_that_cannot_be_read_are_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reported: list[str] = []
    journal = Journal(tmp_path / "sessions.db")
    journal.on_failure = reported.append
    journal._db.execute("DROP TABLE answers")
    for _ in range(3):
        assert journal.answer("state", "c", "i1") is None
    assert journal.failed
    assert len(reported) == caplog.text.count("cannot be used") == 1
    journal.close()
