"""A client takes nothing on trust that a server says: names, sizes, lists, answers."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from tests.openhcs.server.served_runs import SOON

from openhcs._errors import ResultFolderError
from openhcs.server import RunClient, fetch_results
from zmqruntime import ControlTimeout, PeerError, ZMQServer
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Liar = Callable[..., RunClient]


@pytest.fixture
def liar() -> Iterator[Liar]:
    """Give clients of servers that answer with what they are told to."""
    with ExitStack() as stack:

        def make(files: Any, data: Any = b"x") -> RunClient:
            answers = {
                "about": {"server": "liar", "roots": []},
                "results.files": files,
                "results.read": {"data": data},
            }
            server = ZMQServer("openhcs-runs", free_endpoint())
            for name, answer in answers.items():
                server.control.handle(name, lambda *_, answer=answer: answer)
            server.start()
            stack.callback(server.stop)
            client = stack.enter_context(RunClient(server.endpoint))
            client.connect_or_raise(SOON)
            return client

        yield make


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "/tmp/x",  # nothing is written there
        "a/../../x",
        "a\0b",
        "a\nb",
        "a\x1b[2Jb",
        "",
        ".",
        "a//b",
        ".lock",
        ".fetched.json",
        "work/x",
    ],
)
def test_a_name_that_no_result_has_is_refused(liar: Liar, tmp_path: Path, name: str) -> None:
    client = liar({"files": [["good", 1, 1], [name, 1, 1]]})
    with pytest.raises(ResultFolderError, match="lies in no folder of results"):
        fetch_results(client, "mine", tmp_path / "home")
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "home" / "good").exists()


@pytest.mark.parametrize("folder", [False, True], ids=["file", "folder"])
def test_a_link_here_is_not_written_through(liar: Liar, tmp_path: Path, folder: bool) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    outside.mkdir()
    fetch_results(liar({"files": [["a/b", 1, 1]]}), "mine", home)
    (home / "a" / "b").unlink()
    if folder:
        (home / "a").rmdir()
        (home / "a").symlink_to(outside)
    else:
        (home / "a" / "b").symlink_to(outside / "b")
    with pytest.raises(ResultFolderError, match=r"lies in no folder|other results"):
        fetch_results(liar({"files": [["a/b", 1, 1]]}), "mine", home)
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "files",
    [
        {"files": [["a", -5, 1]]},
        {"files": [["a", 1 << 60, 1], ["b", 1, 1]]},
        {"files": [["a", 1, 1 << 63]]},
        {"files": 7},
        {},
        {"files": [["a", 1, 1]], "next": ""},
        {"files": [["a", 1, 1]], "next": "a"},
    ],
    ids=["negative", "huge", "time", "no list", "nothing", "no progress", "a circle"],
)
def test_a_list_that_cannot_be_is_no_end_of_the_program(
    liar: Liar, tmp_path: Path, files: Any
) -> None:
    with pytest.raises(PeerError, match=r"not understood|has no end"):
        fetch_results(liar(files), "mine", tmp_path / "home")


def test_no_more_is_written_than_was_said(liar: Liar, tmp_path: Path) -> None:
    client = liar({"files": [["a", 3, 1]]}, b"x" * 1000)
    with pytest.raises(ResultFolderError, match="sends more of 'a'"):
        fetch_results(client, "mine", tmp_path / "home")
    assert not (tmp_path / "home" / "a").exists()


def test_a_file_that_goes_on_is_given_up_when_another_fails(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = liar({"files": [["long", 1 << 40, 1], ["wrong", 1, 1]]})
    monkeypatch.setattr(
        client,
        "read_piece",
        lambda _results, entry, _start: b"x" if entry.path == "long" else b"too much",
    )
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 50))
    with pytest.raises(ResultFolderError, match="sends more of 'wrong'"):
        fetch_results(client, "mine", tmp_path / "home")
    assert not (tmp_path / "home" / "long").exists()


def test_a_server_that_is_away_is_no_trouble_of_the_disk(
    liar: Liar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = liar({"files": [["a", 3, 1]]})

    def away(*_: object) -> bytes:
        raise ControlTimeout("no answer")

    monkeypatch.setattr(client, "read_piece", away)
    with pytest.raises(ControlTimeout, match="no answer"):
        fetch_results(client, "mine", tmp_path / "home")
