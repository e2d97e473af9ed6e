"""Results that are brought from a server: whole, once, and into no folder of something else."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest
from tests.openhcs.server.served_runs import PIPELINE, Serve

import openhcs
from openhcs._errors import ResultFolderError
from openhcs.execution import ResultFolder
from openhcs.pipeline import from_source
from openhcs.results import open_results
from openhcs.server import fetch_results
from zmqruntime import NotFoundError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def done(screens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run, as a server has them."""
    out = tmp_path_factory.mktemp("done") / "run"
    openhcs.run(screens / "p1", from_source(PIPELINE), out=out, wells="A01,A02", workers=1)
    return out


@pytest.fixture
def there(done: Path, tmp_path: Path) -> Path:
    """The results ``mine`` of a server that is about to be made."""
    folder = tmp_path / "results" / "local" / "mine"
    shutil.copytree(done, folder)
    return folder


def test_a_folder_with_something_else_is_not_fetched_into(
    serve: Serve, there: Path, done: Path, tmp_path: Path
) -> None:
    client = serve()
    shutil.copytree(there, there.with_name("other"))
    own = tmp_path / "own"
    own.mkdir()
    (own / "letter.txt").write_text("dear")
    with pytest.raises(ResultFolderError, match="holds other things"):
        fetch_results(client, "mine", own)
    assert [path.name for path in own.iterdir()] == ["letter.txt"]

    fetch_results(client, "mine", tmp_path / "home")
    before = (tmp_path / "home" / "run.json").read_bytes()
    with pytest.raises(ResultFolderError, match="holds other results than 'other'"):
        fetch_results(client, "other", tmp_path / "home")
    assert (tmp_path / "home" / "run.json").read_bytes() == before

    shutil.copytree(done, tmp_path / "here")
    with pytest.raises(ResultFolderError, match="holds other results"):
        fetch_results(client, "mine", tmp_path / "here")
    with pytest.raises(NotFoundError, match=r"there are other, mine$"):
        fetch_results(client, "their", tmp_path / "their")
    assert not (tmp_path / "their").exists()


@pytest.mark.usefixtures("there")
def test_a_fetch_that_was_cut_off_goes_on_where_it_was(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    home, asked = tmp_path / "home", threading.Semaphore(20)
    read = client.read_piece

    def cut_off(*words: object) -> bytes:
        if not asked.acquire(blocking=False):
            raise NotFoundError("the link is cut")
        return read(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "read_piece", cut_off)
    with pytest.raises(ResultFolderError):
        fetch_results(client, "mine", home)
    assert ResultFolder(home).read_run() is None  # what is not whole is no result
    with pytest.raises(ResultFolderError):
        open_results(home)
    monkeypatch.undo()
    rest = fetch_results(client, "mine", home)
    assert rest.unchanged >= 10
    assert open_results(home).completed


def test_results_that_change_while_they_are_fetched_are_fetched_as_they_are_then(
    serve: Serve, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    read = client.read_piece
    changed: list[bool] = []

    def meddle(results: str, entry: object, start: int) -> bytes:
        if not changed:
            changed.append(True)
            for path in there.rglob("*.json"):
                path.write_bytes(path.read_bytes() + b" ")
        return read(results, entry, start)  # type: ignore[arg-type]

    monkeypatch.setattr(client, "read_piece", meddle)
    fetch_results(client, "mine", tmp_path / "home")
    for path in (path for path in there.rglob("*.json") if "work" not in path.parts):
        assert (tmp_path / "home" / path.relative_to(there)).read_bytes() == path.read_bytes()


def test_many_files_are_listed_in_order_and_each_once(serve: Serve, tmp_path: Path) -> None:
    there = tmp_path / "results" / "local" / "mine"
    names = [f"a/{n:04d}.json" for n in range(2100)]
    names += ["a-b", "a.txt", "b/c/d", "b/c.e", "run.json"]
    for name in [*names, "work/plan.json", ".lock", "a/.x.1-2.partial", "b/.c.3.replaced/d"]:
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(b"1")
    listed = [entry.path for entry in serve().result_files("mine")]
    assert listed == sorted(names)
