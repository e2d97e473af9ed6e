"""What may be submitted: plates below the roots, pipelines and no program, known viewers."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.openhcs.server.served_runs import PIPELINE, SOON, Serve, Watched, order, settings_of

from openhcs import Pipeline, RunRequest, Step
from openhcs.functions import correct_illumination, project_max
from openhcs.pipeline import Branch, Route, default_pipeline
from openhcs.results import open_results
from openhcs.server import RunClient, RunServer, Submission, TextFile, ViewerAddress
from openhcs.testing.viewers import RecordingViewer
from zmqruntime import (
    BusyError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RequestError,
)
from zmqruntime.execution import ExecutionStatus
from zmqruntime.security import KeyFolder
from zmqruntime.testing import free_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("plate", "error", "text"),
    [
        ("/etc", ForbiddenError, "it may read screens"),
        ("../screens/p1", ForbiddenError, "it may read screens"),
        ("screen/p1", ForbiddenError, "did you mean screens/p1"),
        ("screens/../../etc", InvalidRequestError, "leads out of"),
        ("screens//etc/passwd", InvalidRequestError, "relative"),
        ("screens/away", InvalidRequestError, "leads out of"),
        ("screens/p1x", NotFoundError, "did you mean screens/p1"),
        ("screens/p1\0", InvalidRequestError, "zero byte"),
        ("screens/" + "a" * 300, InvalidRequestError, "cannot be looked for"),
        ("screens/" + "a" * 300 + "/p1", InvalidRequestError, "cannot be looked for"),
        ("screens/p1/" + "b/" * 1000, NotFoundError, "there is no"),
    ],
)
def test_a_plate_outside_of_the_roots_is_refused(
    serve: Serve, tmp_path: Path, plate: str, error: type[RequestError], text: str
) -> None:
    root = tmp_path / "root"
    (root / "p1").mkdir(parents=True)
    (root / "away").symlink_to("/etc")
    client = serve(roots={"screens": root})
    with pytest.raises(error, match=text):
        client.submit_run(order(options={"plate": plate}))
    assert list(client.jobs()) == []


def test_no_name_leads_out_of_the_roots(serve: Serve, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "up").symlink_to("../..")
    (root / "out").symlink_to("/")
    client = serve(roots={"root": root, "a": root / "a"}, runs=1)
    # No plate is there, so whatever is accepted fails: what counts is the place that is kept.
    server = client.endpoint.port

    parts = st.sampled_from(["root", "a", "b", "up", "out", "..", ".", "", "etc", "~", "a\\..\\.."])

    @given(st.lists(parts, min_size=1, max_size=6).map("/".join))
    @settings(
        max_examples=150,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def check(name: str) -> None:
        try:
            job = client.submit_run(order(options={"plate": name or "."})).job
        except RequestError:
            return
        client.cancel(job)
        head, _, rest = name.partition("/")
        kept = {"root": root, "a": root / "a"}[head]
        assert (kept / rest).resolve().is_relative_to(kept)

    check()
    assert client.is_connected(), server


def test_files_that_steps_read_lie_below_the_roots_too(serve: Serve) -> None:
    client = serve()
    profile = "/etc/passwd"
    step = Step(correct_illumination, source="file", profile=profile)
    for pipeline in (
        Pipeline(step),
        Pipeline(Pipeline(Step(project_max), step)),
        Pipeline(Step(project_max), Branch(step)),
        Pipeline(Route({"DAPI": Step(project_max)}, otherwise=step)),
        Pipeline(Route({"DAPI": step}, otherwise="pass")),
    ):
        text = RunRequest(plate="screens/p1", pipeline=pipeline).to_source()
        with pytest.raises(ForbiddenError, match="/etc/passwd"):
            client.submit_run(Submission(results="mine", text=text))
    assert list(client.jobs()) == []


def test_names_of_files_are_changed_and_all_else_stays() -> None:
    step = Step(correct_illumination, source="file", profile="a/flat.tif", name="flat", keep=True)
    pipeline = Pipeline(
        Pipeline(step, name="inner", otherwise="pass"),
        Branch(Step(project_max, wells="A*")),
        Route({"DAPI": step}, otherwise=Step(project_max)),
        missing="fill=0.5",
    )
    request = RunRequest(plate="a/plate", pipeline=pipeline, wells="A*")
    moved = request.with_files(lambda name: f"/data/{name}")
    assert moved.with_files(lambda name: name.removeprefix("/data/")) == request
    assert moved.to_source().count("/data/a/flat.tif") == 2
    assert moved.plate == "/data/a/plate"
    plain = RunRequest(plate="x", pipeline=default_pipeline())
    assert plain.with_files(str).pipeline == plain.pipeline


@pytest.mark.parametrize(
    ("submission", "text"),
    [
        ({"text": "import os\nos.system('x')"}, "pipeline.py:1:1"),
        ({"text": PIPELINE.replace("stitch", "stitsch")}, "did you mean 'stitch'"),
        ({"text": "pipeline = Pipeline()"}, "pipeline.py:1"),
        ({"options": {"plate": "screens/p1", "wels": "A*"}}, "wels"),
        ({"options": {"plate": 7}}, "plate"),
        ({"options": {"plate": "screens/p1", "platemap": "/etc/passwd"}}, "travels"),
        ({"options": {"plate": "screens/p1", "settings": {"keep": "x"}}}, "keep"),
        ({"options": None, "text": "request = 1"}, "no RunRequest"),
        ({"results": "../mine"}, "results"),
        ({"results": ".."}, "results"),
        ({"results": "mine\n"}, "results"),
        ({"viewer": ViewerAddress(host="", port=5555)}, "host"),
        ({"platemap": TextFile(name="../map.csv", content=b"")}, "name"),
        ({"platemap": TextFile(name="map.csv\n", content=b"")}, "name"),
        ({"platemap": TextFile(name="..", content=b"")}, "name"),
        ({"platemap": TextFile(name="é" * 150, content=b"")}, "200 bytes"),
        ({"text": "a = (1,)\n" + "a = (a, a, a)\n" * 40 + "pipeline = a"}, "stands for more"),
    ],
)
def test_what_is_no_run_is_refused_at_once(
    serve: Serve, submission: dict[str, Any], text: str
) -> None:
    client = serve()
    with pytest.raises(InvalidRequestError, match=text):
        client.submit_run(order(**submission))
    assert list(client.jobs()) == []


def test_text_may_adapt_functions_of_the_libraries_alone(serve: Serve) -> None:
    text = """from openhcs import Pipeline, Step
from openhcs.functions import adapt

pipeline = Pipeline(Step(adapt("os.system")))
"""
    with pytest.raises(InvalidRequestError, match="may not be named here"):
        serve().submit_run(order(text=text))


QUICK = """from openhcs import Pipeline, Step
from openhcs.functions import project_max

pipeline = Pipeline(Step(project_max))
"""


def test_a_plate_that_became_a_link_while_its_run_waited_is_not_read(
    serve: Serve, screens: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    plate = root / "p1"
    shutil.copytree(screens / "p1", plate)
    client = serve(roots={"screens": root})
    first = client.submit_run(order("first"))
    second = client.submit_run(order("second", text=QUICK))
    plate.rename(root / "moved")
    plate.symlink_to(screens / "p1")
    client.cancel(first.job)
    record = client.wait(second.job, SOON)
    assert record.state is ExecutionStatus.FAILED
    assert "replaced by a link" in record.message
    assert not (tmp_path / "results" / "local" / "second").exists()


@pytest.mark.parametrize("within", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_link_in_a_plate_is_followed_within_its_root_alone(
    serve: Serve, screens: Path, tmp_path: Path, kind: str, within: bool
) -> None:
    root = tmp_path / "root"
    plate = root / "p1"
    shutil.copytree(screens / "p1", plate)
    target = (root if within else tmp_path) / "elsewhere"
    link = plate / "more"
    if kind == "file":
        link = next(path for path in sorted(plate.iterdir()) if path.suffix.lower() == ".tif")
        link.rename(target)
    else:
        target.mkdir()
    link.symlink_to(target)
    client = serve(roots={"screens": root})
    record = client.wait(client.submit_run(order(text=QUICK)).job, SOON)
    said = f"leads out of the root 'screens': {link.relative_to(plate)}" in record.message
    assert said is not within


@pytest.mark.parametrize("path", ["../other/run.json", "/etc/passwd", "a/../../other/run.json"])
def test_no_file_beside_the_results_is_read(serve: Serve, tmp_path: Path, path: str) -> None:
    for name in ("mine", "other"):
        folder = tmp_path / "results" / "local" / name
        (folder / "a").mkdir(parents=True)
        (folder / "run.json").write_text("{}")
    (tmp_path / "results" / "local" / "mine" / "link.json").symlink_to("/etc/passwd")
    client = serve()
    (entry,) = client.result_files("mine")  # a link is no result
    assert entry.path == "run.json"
    with pytest.raises(InvalidRequestError):
        client.read_piece("mine", type(entry)(path, entry.size, entry.modified), 0)
    with pytest.raises(InvalidRequestError):
        client.read_piece("mine", type(entry)("link.json", entry.size, entry.modified), 0)
    for name in ("..", "../local", "mine/a", ""):
        with pytest.raises(InvalidRequestError):
            client.result_files(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["file", "folder", "pipe"])
def test_a_result_that_became_a_link_after_it_was_listed_is_not_read(
    serve: Serve, tmp_path: Path, kind: str
) -> None:
    there = tmp_path / "results" / "local" / "mine"
    outside = tmp_path / "outside"
    for folder in (there / "a", outside):
        folder.mkdir(parents=True)
        (folder / "b").write_text("x")
    client = serve()
    (entry,) = client.result_files("mine")
    assert client.read_piece("mine", entry, 0) == b"x"
    os.utime(outside / "b", ns=(entry.modified, entry.modified))
    if kind == "folder":
        shutil.rmtree(there / "a")
        (there / "a").symlink_to(outside)
    else:
        (there / "a" / "b").unlink()
        if kind == "pipe":
            os.mkfifo(there / "a" / "b")
        else:
            (there / "a" / "b").symlink_to(outside / "b")
    with pytest.raises((InvalidRequestError, NotFoundError)):
        client.read_piece("mine", entry, 0)
    assert client.results() == ("mine",)  # nobody waits for the other end of a pipe


@pytest.fixture
def keyed_with(screens: Path, tmp_path: Path) -> Iterator[Any]:
    """Make a server with keys, and clients of it, each with a key that has some capabilities."""
    keys = KeyFolder(tmp_path / "server-keys")
    with ExitStack() as stack:
        endpoint = free_endpoint()

        def serve(**further: Any) -> Any:
            further |= {"keys": keys.path, "roots": {"screens": screens, "secret": tmp_path}}
            stack.enter_context(RunServer(endpoint, settings_of(screens, tmp_path, **further)))
            return make, keys

        def make(name: str, *capabilities: str) -> RunClient:
            mine = KeyFolder(tmp_path / f"{name}-keys")
            mine.make(name)
            mine.trust(endpoint.host, keys.public_path("server"))
            keys.authorize(
                mine.public_path(name), role="operator", capabilities=frozenset(capabilities)
            )
            client = stack.enter_context(RunClient(endpoint, keys=mine))
            client.connect_or_raise(SOON)
            return client

        yield serve


@pytest.fixture
def keyed(keyed_with: Any) -> Any:
    return keyed_with()


def test_a_key_reads_the_roots_that_it_was_given(keyed: Any) -> None:
    make, _ = keyed
    ada, bob = make("ada", "fs:screens:read"), make("bob")
    assert (ada.roots(), bob.roots()) == (("screens",), ())
    with pytest.raises(ForbiddenError, match="the key bob may read: it may read none"):
        bob.submit_run(order())
    with pytest.raises(ForbiddenError, match="it may read screens"):
        ada.submit_run(order(options={"plate": "secret/results"}))
    job = ada.submit_run(order(text=None, options={"plate": "screens/p1", "wells": "A01"})).job
    with pytest.raises(NotFoundError):
        bob.follow(job, print)
    assert bob.orders([job]) == {}
    assert ada.wait(job, SOON).state is ExecutionStatus.COMPLETED
    assert (ada.results(), bob.results()) == (("mine",), ())
    with pytest.raises(NotFoundError):
        bob.result_files("mine")


def test_images_go_to_a_viewer_whose_key_is_known_and_to_no_other(
    keyed: Any, tmp_path: Path
) -> None:
    make, server_keys = keyed
    ada = make("ada", "fs:screens:read", "viewer:localhost")
    bob = make("bob", "fs:screens:read")
    desk = KeyFolder(tmp_path / "desk-keys")
    port = free_endpoint().port
    with RecordingViewer(port, keys=desk) as viewer:
        address = ViewerAddress(host="localhost", port=port)
        with pytest.raises(ForbiddenError, match="not known to the server"):
            ada.submit_run(order(viewer=address))
        server_keys.trust("localhost", desk.public_path("server"))
        server_keys.make("compute")
        desk.authorize(server_keys.public_path("compute"), role="operator")
        with pytest.raises(ForbiddenError, match="it needs viewer:localhost"):
            bob.submit_run(order(viewer=address))
        job = ada.submit_run(order(viewer=address)).job
        assert ada.wait(job, SOON).state is ExecutionStatus.COMPLETED
        shown = ada.result(job)["viewer"]
        assert "shows" in shown, shown + "".join(ada.logs(job))
        names = {name for name, _ in viewer.planes}
        assert {"stitched DAPI", "stitched GFP", "nuclei"} <= names
        results = open_results(tmp_path / "results" / "ada" / "mine")
        for well in ("A01", "B02"):
            first = np.asarray(results.image(well))[0, 0, 0]
            np.testing.assert_array_equal(viewer.planes["stitched DAPI", (well,)], first)


def test_results_of_a_key_are_never_among_those_of_programs_without_one(
    keyed: Any, tmp_path: Path
) -> None:
    (tmp_path / "results" / "local" / "own").mkdir(parents=True)
    local = keyed[0]("local", "fs:screens:read")
    for ask in (local.results, lambda: local.submit_run(order())):
        with pytest.raises(ForbiddenError, match="under another name"):
            ask()


def test_the_servers_own_user_needs_no_key_where_others_do(keyed: Any) -> None:
    ada = keyed[0]("ada", "fs:screens:read")
    with RunClient(ada.endpoint, keys=KeyFolder("nowhere")) as own:
        own.connect_or_raise(SOON)
        job = own.submit_run(order("mine", text=QUICK)).job
        assert own.wait(job, SOON).state is ExecutionStatus.COMPLETED
        assert (own.results(), ada.results()) == (("mine",), ())
        assert "secret" in own.roots()


def test_a_key_that_fills_its_share_of_the_line_leaves_the_others_theirs(
    keyed_with: Any,
) -> None:
    make, _ = keyed_with(waiting=3)
    ada, bob = make("ada", "fs:screens:read"), make("bob", "fs:screens:read")
    first = Watched(ada, ada.submit_run(order("first")).job)
    first.wait_for(lambda events: bool(events))
    waiting = [ada.submit_run(order(f"r{number}", text=QUICK)).job for number in range(3)]
    with pytest.raises(BusyError, match=r"3 jobs of yours wait already.*cancel some"):
        ada.submit_run(order("more", text=QUICK))
    theirs = bob.wait(bob.submit_run(order("theirs", text=QUICK)).job, SOON)
    last = ada.wait(waiting[-1], SOON)
    assert theirs.state is last.state is ExecutionStatus.COMPLETED
    assert theirs.started < last.started
