from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import (
    Deadline,
    Feed,
    FeedReader,
    Item,
    Subscriber,
    Work,
    ZMQClient,
    ZMQServer,
    start_service,
)
from zmqruntime._cli import main
from zmqruntime._cli._table import ago, clean, table
from zmqruntime.security import KeyFolder
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SOON = 10.0  # seconds; far more than any of this takes
PROGRAM = (
    "import sys; from zmqruntime import Endpoint, ZMQServer\n"
    "ZMQServer('test', Endpoint(port=int(sys.argv[1])), bind_address='127.0.0.1')"
    ".serve_until_signal()"
)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep keys and logs of a test to itself."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main(words)
    out, err = capsys.readouterr()
    return status, out, err


def as_json(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    status, out, _ = run(capsys, *words, "--json")
    assert status == 0
    return json.loads(out)


def test_keys_are_made_listed_authorised_and_revoked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    server = str(tmp_path / "server")
    assert "no pair yet" in run(capsys, "keys", "list")[1].lower()
    status, out, _ = run(capsys, "keys", "make", "--name", "desk")
    assert status == 0
    secret = KeyFolder.default().pair("desk").secret
    public_file = str(KeyFolder.default().public_path("desk"))
    assert public_file in out
    assert "keys authorize desk.pub" in out
    made = as_json(capsys, "keys", "make", "--name", "server", "--folder", server)
    entry = as_json(
        capsys, "keys", "authorize", public_file, "--role", "operator", "--folder", server,
        "--may", "fs:plates:read",
    )  # fmt: skip
    assert (entry["name"], entry["role"]) == ("desk", "operator")
    assert entry["capabilities"] == ["fs:plates:read"]
    run(capsys, "keys", "trust", "scope.lab:7777", made["public_file"])
    for words in (("keys", "list"), ("keys", "list", "--folder", server)):
        for more in ((), ("--json",)):
            assert secret not in run(capsys, *words, *more)[1]
    listed = as_json(capsys, "keys", "list")
    assert listed["known"] == [{"server": "scope.lab:7777", "public": made["public"]}]
    assert [pair["name"] for pair in listed["pairs"]] == ["desk"]
    assert run(capsys, "keys", "show", "desk")[1].strip() == entry["public"]
    assert run(capsys, "keys", "revoke", "desk", "--folder", server)[0] == 0
    status, _, err = run(capsys, "keys", "revoke", "desk", "--folder", server)
    assert status == 2
    assert "there is nobody" in err


def test_a_capability_without_a_role_grants_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(capsys, "keys", "make", "--name", "desk")
    file = str(KeyFolder.default().public_path("desk"))
    assert as_json(capsys, "keys", "authorize", file)["role"] == "viewer"
    entry = as_json(capsys, "keys", "authorize", file, "--may", "call:camera.snap")
    assert (entry["role"], entry["grants"]) == (None, ["call:camera.snap"])


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("nonsense",),
        ("keys",),
        ("keys", "make"),
        ("keys", "make", "--name", "../x"),
        ("keys", "show", "nobody"),
        ("keys", "authorize", "missing.pub"),
        ("keys", "authorize", "missing.pub", "--role", "emperor"),
        ("keys", "trust", "a b", "missing.pub"),
        ("ping", "host:nonsense"),
        ("ping", "localhost:5555", "--timeout", "0"),
        ("trace", "localhost:5555", "--every", "x"),
    ],
)
def test_wrong_use_is_status_two_and_a_sentence(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    status, out, err = run(capsys, *words)
    assert status == 2
    assert not out
    assert "zmqruntime" in err


def test_services_are_listed_with_what_they_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "ps") == (0, "No service of this user runs on this computer.\n", "")
    with serve_in_thread(app="engine") as server:
        (idle,) = as_json(capsys, "ps")
        assert (idle["app"], idle["state"], idle["keys"]) == ("engine", "idle", False)
        server.work = Work(state="busy", task="plate 3\x1b[2J", queued=2)
        status, out, _ = run(capsys, "ps")
        assert status == 0
        assert "busy" in out
        assert "plate 3?[2J, 2 waiting" in out
        assert "\x1b" not in out


@pytest.mark.req("B.7")
def test_a_stopped_service_is_unresponsive_and_a_killed_one_lost(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, suspend: Callable[[int], None]
) -> None:
    endpoint = free_endpoint()
    words = [sys.executable, "-c", PROGRAM, str(endpoint.port)]
    with start_service(words, log_path=tmp_path / "log", timeout=SOON) as process:
        suspend(process.pid)
        (stopped,) = as_json(capsys, "ps")
        assert (stopped["state"], stopped["answering"]) == ("unresponsive", False)
        assert "kill -CONT" in stopped["note"]
        process.kill()
        (lost,) = as_json(capsys, "ps")
        assert (lost["state"], lost["pid"]) == ("lost", stopped["pid"])
    with serve_in_thread(app="engine"):
        assert [each["app"] for each in as_json(capsys, "ps", "--forget")] == ["engine", "test"]
        assert [each["app"] for each in as_json(capsys, "ps")] == ["engine"]


def test_a_ping_says_what_a_service_is_and_how_long_it_took(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with serve_in_thread(app="engine") as server:
        found = as_json(capsys, "ping", str(server.endpoint), "--count", "10")
        assert (found["app"], found["ready"], found["count"]) == ("engine", True, 10)
        assert 0 < found["min_ms"] <= found["median_ms"] <= found["p99_ms"]
        status, out, _ = run(capsys, "ping", str(server.endpoint), "--count", "3")
        assert status == 0
        assert "engine, process" in out
        assert "3 round trips" in out


def test_a_service_that_cannot_be_reached_is_status_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for command in ("ping", "trace"):
        status, out, err = run(capsys, command, str(free_endpoint()), "--timeout", "0.1")
        assert (status, out) == (1, "")
        assert "is the service running" in err


def test_a_stranger_gets_a_sign_of_life(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve_in_thread(app="engine") as server:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))  # another user finds no token
        status, out, _ = run(capsys, "ping", str(server.endpoint), "--count", "2")
        assert status == 0
        assert "does not say more to strangers" in out
        assert "engine" not in out.splitlines()[0]


def test_a_server_with_keys_is_reached_with_the_keys_of_the_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    keys = KeyFolder(tmp_path / "server")
    endpoint = free_endpoint()
    target = f"127.0.0.2:{endpoint.port}"
    with ZMQServer("engine", endpoint, keys=keys) as server:
        run(capsys, "keys", "make", "--name", "desk")
        run(capsys, "keys", "trust", "127.0.0.2", str(keys.public_path("server")))
        status, _, err = run(capsys, "ping", target)
        assert status == 1
        assert "keys authorize desk.pub" in err
        keys.authorize(KeyFolder.default().public_path("desk"), role="viewer")
        found = as_json(capsys, "ping", target, "--count", "3")
        assert (found["app"], found["encrypted"]) == ("engine", True)
        with Subscriber(server):
            status, _, err = run(capsys, "trace", target, "--once")
        assert status == 1
        assert "service:inspect" in err or "no streams" in err


def test_streams_are_shown_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    frame = bytes(100_000)
    with (
        serve_in_thread(app="engine") as server,
        Feed(server) as feed,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect(SOON)
        target = str(server.endpoint)
        assert run(capsys, "trace", target, "--once")[1] == (
            "nobody takes part in a stream at the moment\n"
        )
        with FeedReader(client) as reader:
            reader.subscribe("frames")
            deadline = Deadline(SOON)
            while not reader.wait(0.05):  # what is published before it takes part it does not get
                assert not deadline.expired
                feed.publish("frames", b"", [frame], key="1", timeout=SOON)
            status, out, _ = run(capsys, "trace", target, "--once")
            assert status == 0
            assert out.splitlines()[0].split()[:4] == ["TOPIC", "PEER", "DIR", "MODE"]
            assert out.splitlines()[1].startswith("frames ")
            (lane,) = as_json(capsys, "trace", target, "--once")["lanes"]
            assert (lane["topic"], lane["direction"]) == ("frames", "out")
            assert lane["sent"] >= 1
            assert lane["link"]["payloads"] == 0
            assert out.splitlines()[1].split().count("-") == 4  # of the link nothing is known yet
            for item in reader.receive():
                assert isinstance(item, Item)
                item.lease.release()
            assert feed.flush(SOON)
            status, out, _ = run(capsys, "trace", target, "--once")
            assert out.splitlines()[1].split().count("-") == 2
            command = ["trace", target, "--json", "--every", "0.1"]
            words = [sys.executable, "-m", "zmqruntime", *command]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as traced:
                assert traced.stdout is not None
                looks = [json.loads(traced.stdout.readline()) for _ in range(3)]
                traced.send_signal(signal.SIGINT)
                assert traced.wait(SOON) == 130
            assert all(look["lanes"] for look in looks)


def test_output_that_nobody_reads_to_its_end_is_no_error() -> None:
    line = f"{sys.executable} -m zmqruntime ps | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_table_lines_up_and_lets_nobody_move_the_cursor() -> None:
    text = table(("NAME", "N"), [("a", "1"), ("long\x1b[31m", "10"), ("x" * 99, "2")])
    assert text.splitlines()[0].startswith("NAME ")
    assert "\x1b" not in text
    assert "…" in text
    assert [line[-2:] for line in text.splitlines()] == [" N", " 1", "10", " 2"]
    assert clean("a\x07\u202eb\nc") == "a??b\nc"
    assert [ago(0.0, now=now) for now in (5.0, 120.0, 7200.0, 200_000.0)] == [
        "5 s",
        "2 min",
        "2 h",
        "2 d",
    ]
