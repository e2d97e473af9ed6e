from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from zmqruntime import ControlTimeout, ZMQClient
from zmqruntime.gateway import WebSocketCarrier, WebSocketGateway
from zmqruntime.session import (
    Applied,
    Change,
    SessionClient,
    SessionError,
    SessionServer,
    StateRejectedError,
)
from zmqruntime.testing import serve_in_thread
from zmqruntime.testing.conformance import (
    CASES,
    CLIENT_CASES,
    REFERENCE_PROFILE,
    Case,
    ClientCase,
    ConformanceError,
    Connection,
    Profile,
    Recording,
    ReferenceScene,
    Subject,
    WebSocketConnection,
    connector,
    golden_schema,
    replay,
    run_cases,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOON = 10.0  # seconds; far more than any of this takes
PLAIN = Path(__file__).with_name("plain_client.py")


def plain_client() -> Any:
    """Load the third party's program, as it would be in a project of its own."""
    spec = importlib.util.spec_from_file_location("plain_client", PLAIN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def serving() -> Iterator[dict[str, Subject]]:
    scene = ReferenceScene()
    with (
        serve_in_thread() as server,
        SessionServer(server, scene.baseline) as sessions,
        WebSocketGateway(sessions, port=0) as gateway,
        ZMQClient(server.endpoint) as client,
    ):
        scene.add_to(sessions)
        client.connect(SOON)
        urls = {"zmq": server.endpoint.control_url, "websocket": gateway.url}
        yield {
            carrier: Subject(
                connect=connector(url), token=client.control.token, profile=REFERENCE_PROFILE
            )
            for carrier, url in urls.items()
        }


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Subject]]:
    """One server for all cases: they leave it as fit as they found it."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        with serving() as found:
            yield found


@pytest.mark.req("B.11", "001.5", "004.1", "T7", "T8", "004.3", "004.5", "004.9", "004.10", "R7")
@pytest.mark.parametrize("carrier", ["zmq", "websocket"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_our_server_conforms(subjects: dict[str, Subject], carrier: str, case: Case) -> None:
    assert case.applies(subjects[carrier])
    case.run(subjects[carrier])


class Ours:
    """Our own client, as a subject of the cases for clients."""

    def __init__(self, url: str, protocols: tuple[int, ...]) -> None:
        self.client = SessionClient(WebSocketCarrier(url), protocols=protocols)
        self.failure: Exception | None = None
        try:
            self.client.connect(1.0)
        except (SessionError, ControlTimeout) as error:
            self.failure = error

    def close(self) -> None:
        self.client.close()


@pytest.mark.req("B.11", "004.4", "004.13")
@pytest.mark.parametrize("protocols", [(1,), (1, 2)])
@pytest.mark.parametrize("case", CLIENT_CASES, ids=[case.name for case in CLIENT_CASES])
def test_our_client_conforms(case: ClientCase, protocols: tuple[int, ...]) -> None:
    case.run(lambda url: Ours(url, protocols))


@pytest.mark.req("004.20", "B.11")
@pytest.mark.parametrize("case", CLIENT_CASES, ids=[case.name for case in CLIENT_CASES])
def test_a_plain_client_conforms(case: ClientCase) -> None:
    case.run(plain_client().start)


@pytest.mark.req("004.20", "004.6", "004.11")
def test_a_plain_client_follows_what_others_do(subjects: dict[str, Subject]) -> None:
    subject = subjects["websocket"]
    probe = subject.connect()
    assert isinstance(probe, WebSocketConnection)
    url = probe.url
    probe.close()
    plain = plain_client().PlainClient(url, subject.token)
    try:
        assert plain.wait_for(lambda: plain.scene is not None, SOON)
        assert plain.scene["layers"][0]["layer_id"] == "layer-0"
        with SessionClient(WebSocketCarrier(url, token=subject.token)) as ours:
            ours.connect(SOON)
            for gamma in (1.25, 1.5):
                ours.update("layer", "layer-0", "gamma", gamma).result(SOON)
                gamma_of = ("layer", "layer-0", "gamma")
                assert plain.wait_for(lambda: plain.properties.get(gamma_of) == gamma, SOON)  # noqa: B023
            ours.update("dims", "z", "step", 206).result(SOON)
            assert plain.wait_for(lambda: ("dims", "z", "step") in plain.properties, SOON)
    finally:
        plain.close()


class Careless:
    """A server's connection that leaves something out of everything it says."""

    def __init__(self, connection: Connection, spoil: Callable[[dict[str, Any]], object]) -> None:
        self.connection = connection
        self.spoil = spoil

    def send(self, text: str) -> None:
        self.connection.send(text)

    def receive(self, timeout: float) -> str | None:
        text = self.connection.receive(timeout)
        if text is None:
            return None
        envelope = json.loads(text)
        self.spoil(envelope)
        return json.dumps(envelope)

    def close(self) -> None:
        self.connection.close()


@pytest.mark.req("B.11")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda envelope: envelope.pop("id", None) or envelope.pop("frame_id", None),
        lambda envelope: envelope.update(colour="red"),
        lambda envelope: envelope["payload"].update(client=None),
        lambda envelope: envelope.pop("timestamp"),
        lambda envelope: envelope.update(seq=7) if "seq" in envelope else None,
        lambda envelope: envelope["payload"].update(server_seq=1),
    ],
    ids=["no-name", "unknown-key", "null", "no-time", "wrong-number", "stuck-number"],
)
def test_a_careless_server_is_found_out(spoil: Callable[[dict[str, Any]], object]) -> None:
    few = [case for case in CASES if "changes-are-echoed" in case.name or "ack-comes" in case.name]
    with serving() as subjects:
        good = subjects["zmq"]
        careless = Subject(
            connect=lambda: Careless(good.connect(), spoil), token=good.token, profile=good.profile
        )
        findings = run_cases(careless, few)
    assert "failed" in {finding.verdict for finding in findings}


@pytest.mark.req("B.11")
def test_what_was_recorded_can_be_said_again(subjects: dict[str, Subject], tmp_path: Path) -> None:
    subject = subjects["zmq"]
    path = tmp_path / "session.jsonl"
    recorded = Subject(
        connect=lambda: Recording(subject.connect(), path),
        token=subject.token,
        profile=subject.profile,
    )
    case = next(case for case in CASES if case.name == "2/an-intent-is-carried-out-once")
    case.run(recorded)
    assert str(subject.token) not in path.read_text(encoding="utf-8")
    with_closing = subject.connect()
    try:
        assert replay(path, with_closing, token=subject.token) >= 5
    finally:
        with_closing.close()
    lines = path.read_text(encoding="utf-8").replace("ack.state", "ack.other")
    path.write_text(lines, encoding="utf-8")
    another = subject.connect()
    try:
        with pytest.raises(ConformanceError, match=r"ack\.other was recorded"):
            replay(path, another, token=subject.token)
    finally:
        another.close()


@pytest.mark.req("B.11")
def test_the_command_reports_every_case(subjects: dict[str, Subject]) -> None:
    subject = subjects["websocket"]
    probe = subject.connect()
    assert isinstance(probe, WebSocketConnection)
    probe.close()
    command = [sys.executable, "-m", "zmqruntime.testing", "conformance", probe.url, "--json"]
    command += ["--token", str(subject.token), "--protocol", "2"]
    command += ["--property", "layer/layer-0/gamma", "--values", "[1.25, 1.5]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    verdicts = {row["case"]: row["verdict"] for row in json.loads(done.stdout)}
    assert verdicts["2/missed-deltas-are-replayed"] == "passed"
    assert verdicts["2/a-key-is-carried-out-once"] == "left out"
    assert "failed" not in verdicts.values()


def test_the_command_fails_where_a_case_does(subjects: dict[str, Subject]) -> None:
    probe = subjects["websocket"].connect()
    assert isinstance(probe, WebSocketConnection)
    probe.close()
    command = [sys.executable, "-m", "zmqruntime.testing", "conformance", probe.url]
    done = subprocess.run(
        [*command, "--protocol", "1"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "failed    1/welcome-echoes-the-hello" in done.stdout


@pytest.mark.req("B.11")
def test_the_command_writes_the_schemas(tmp_path: Path) -> None:
    folder = tmp_path / "of" / "mine"  # which need not be there
    command = [sys.executable, "-m", "zmqruntime.testing", "schema", str(folder)]
    subprocess.run(command, check=True)
    for protocol in (1, 2):
        text = (folder / f"schema-protocol{protocol}.json").read_text(encoding="utf-8")
        assert json.loads(text) == golden_schema(protocol)


def test_cases_that_lack_what_they_need_are_left_out() -> None:
    def unreachable() -> Connection:
        raise ConnectionRefusedError("nobody there")

    findings = run_cases(Subject(connect=unreachable, profile=Profile()))
    assert {finding.verdict for finding in findings} == {"failed", "left out"}
    assert all("nobody there" in f.message for f in findings if f.verdict == "failed")


def test_a_case_that_stumbles_over_what_a_server_says_has_failed_and_the_others_are_tried() -> None:
    def strange() -> Connection:
        raise KeyError("payload")

    findings = run_cases(Subject(connect=strange, profile=Profile()))
    assert len(findings) == len(CASES)
    assert {f.message for f in findings if f.verdict == "failed"} == {"KeyError: 'payload'"}


def test_an_address_is_one_of_a_known_kind() -> None:
    with pytest.raises(ValueError, match="http"):
        connector("http://localhost")


def test_the_reference_scene_refuses_what_is_not_in_it() -> None:
    scene = ReferenceScene()
    for target, value in (("layer-1", 1.0), ("layer-0", -1.0), ("layer-0", "bright")):
        change = Change(scope="layer", target=target, key="gamma", value=value, client="c")
        with pytest.raises(StateRejectedError):
            scene._set_layer(change)
    change = Change(scope="layer", target="layer-0", key="gamma", value=2, client="c")
    assert scene._set_layer(change) == Applied(value=2.0)
