"""The rules of security that no other module here is about; one test each, and their list."""

from __future__ import annotations

import hashlib
import re
import socket as stdlib_socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from zmqruntime import (
    Encoding,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    Peer,
    Subscriber,
    TokenError,
    ZMQClient,
    ZMQServer,
)
from zmqruntime.security import SEAL_BYTES, Roots, Seal, SealCheck
from zmqruntime.testing import free_endpoint, serve_in_thread

if TYPE_CHECKING:
    from tests.zmqruntime.security.conftest import House
    from typing_extensions import Buffer

SOON = 10.0  # seconds; far more than any of this takes
KEY = bytes(range(32))
FRAMES: list[Buffer] = [b"header", bytearray(b"pixels" * 100), memoryview(b"more")]


def peer(*grants: str) -> Peer:
    return Peer(
        id=b"\0p", owner=False, permitted=True, encoding=Encoding.JSON, grants=frozenset(grants)
    )


@pytest.mark.req("S.11")
@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../secret", "a/../../secret", "out", "out/secret", "a\0b", "x" * 5000, "~x"],
)
def test_no_path_leads_out_of_its_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "plates"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("s")
    (root / "out").symlink_to(tmp_path)
    roots = Roots({"plates": root})
    with pytest.raises((InvalidRequestError, NotFoundError)):
        roots.resolve(peer("fs:plates:read"), "plates", path)


@pytest.mark.req("S.11", "F.28")
def test_without_a_root_or_leave_nothing_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "plates"
    root.mkdir()
    (root / "A01.tif").write_bytes(b"x")
    reader = peer("fs:plates:read")
    with pytest.raises(ForbiddenError):
        Roots().resolve(reader, "plates", ".")
    roots = Roots({"plates": root, "home": tmp_path})
    assert roots.visible_to(reader) == ("plates",)
    assert roots.resolve(reader, "plates", "A01.tif") == root / "A01.tif"
    for name in ("home", "nowhere"):
        with pytest.raises(ForbiddenError, match=f"fs:{name}:read"):
            roots.resolve(reader, name, ".")
    with pytest.raises(ForbiddenError):
        roots.resolve(peer("topic:*", "call:*"), "plates", ".")
    with pytest.raises(ValueError, match="absolute"):
        Roots({"x": Path("relative")})


@pytest.mark.req("S.12")
def test_a_seal_covers_every_byte_of_every_frame() -> None:
    seal = Seal(KEY).sign(FRAMES)
    assert len(seal) == SEAL_BYTES
    assert SealCheck(KEY).check(seal, FRAMES) == 1
    changed: list[list[Buffer]] = [
        [b"Header", *FRAMES[1:]],
        [FRAMES[0], bytes(FRAMES[1])[:-1] + b"S", FRAMES[2]],
        FRAMES[:2],
        [*FRAMES, b""],
        [b"head", b"er" + bytes(FRAMES[1]), FRAMES[2]],  # the same bytes, cut elsewhere
        [FRAMES[0], FRAMES[2], FRAMES[1]],
    ]
    for frames in changed:
        with pytest.raises(TokenError, match="not as it was sealed"):
            SealCheck(KEY).check(seal, frames)
    with pytest.raises(TokenError):
        SealCheck(hashlib.sha256(KEY).digest()).check(seal, FRAMES)
    for broken in (b"", seal[:-1], bytes(SEAL_BYTES)):
        with pytest.raises(TokenError):
            SealCheck(KEY).check(broken, FRAMES)
    with pytest.raises(ValueError, match="32 to 64"):
        Seal(b"short")


@pytest.mark.req("S.12")
@given(st.lists(st.integers(0, 39), max_size=120), st.integers(1, 50))
def test_no_message_is_accepted_twice_in_whatever_order_they_come(
    order: list[int], window: int
) -> None:
    seal, check = Seal(KEY), SealCheck(KEY, window=window)
    sealed = [seal.sign([b"x"]) for _ in range(40)]
    taken: list[int] = []
    for index in order:
        late = bool(taken) and max(taken) - (index + 1) >= window
        if index + 1 in taken or late:
            with pytest.raises(TokenError):
                check.check(sealed[index], [b"x"])
        else:
            taken.append(check.check(sealed[index], [b"x"]))


@pytest.mark.req("S.12")
def test_two_senders_do_not_use_up_each_others_numbers() -> None:
    one, two, check = Seal(KEY), Seal(KEY), SealCheck(KEY)
    for sender in (one, two, one):
        check.check(sender.sign([b"x"]), [b"x"])


@pytest.mark.req("S.15", "F.17")
def test_a_server_connects_to_no_address_that_a_message_names(house: House) -> None:
    with (
        stdlib_socket.create_server(("127.0.0.1", 0)) as bait,
        house.serve() as server,
        Subscriber(server),
        ZMQClient(server.endpoint) as client,
    ):
        bait.settimeout(0.2)
        url = f"tcp://127.0.0.1:{bait.getsockname()[1]}"
        told = {"url": url, "ack_url": url, "endpoint": url, "host": "127.0.0.1", "ports": [url]}
        client.connect(SOON)
        for type_ in ("hello", "attach", "arena", "credit", "ack", "host_proof", "ping"):
            future = client.control.request_nowait(type_, told, timeout=SOON)
            future.exception(SOON)
        with pytest.raises(TimeoutError):
            bait.accept()


@pytest.mark.req("S.16")
def test_a_server_has_no_requests_but_those_it_needs_and_two_sockets() -> None:
    before = listening()
    with serve_in_thread() as server:
        assert set(server.control.types) == {"ping", "hello", "shutdown"}
        with Subscriber(server):
            assert listening() - before == {server.ports.control, server.ports.data}
    source = Path(__file__).parents[3] / "packages" / "zmqruntime" / "src"
    rights = re.compile(r"\b(setuid|setgid|seteuid|setresuid|prctl|sudo)\b")
    assert not [path for path in source.rglob("*.py") if rights.search(path.read_text())]


def listening() -> set[int]:
    """Ports of loopback on which this process listens."""
    inodes = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            inodes.add(str(link.readlink()).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue  # the one that listed them
    ports = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            ports.add(int(fields[1].partition(":")[2], 16))
    return ports


@pytest.mark.req("S.10")
def test_memory_named_by_a_peer_that_did_not_announce_it_is_not_opened(house: House) -> None:
    """The names that carriers accept are tested with them; here through a server with keys."""
    with house.serve() as server, Subscriber(server), ZMQClient(server.endpoint) as client:
        client.connect(SOON)
        with pytest.raises(NotFoundError, match="attach first"):
            client.control.request("arena", {"epoch": "0" * 32, "name": "zmqruntime-x"})


@pytest.mark.req("S.5", "S.9")
def test_before_a_token_is_shown_a_frame_has_at_most_four_kibibytes() -> None:
    with (
        ZMQServer("test", free_endpoint(), bind_address="127.0.0.1") as server,
        zmq.Context() as context,
        context.socket(zmq.DEALER) as socket,
    ):
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.endpoint.control_url)
        for size, code in ((4096, "unauthenticated"), (4097, "too_large")):
            message = b'{"v": 1, "id": "1", "type": "snap", "token": "wrong"}'
            socket.send_multipart([b"", message.ljust(size)])
            assert socket.poll(int(SOON * 1000))
            assert code.encode() in socket.recv_multipart()[1]


def test_every_rule_has_a_test() -> None:
    tests = Path(__file__).parents[1]
    text = "\n".join(path.read_text(encoding="utf-8") for path in tests.rglob("test_*.py"))
    marked = {int(number) for number in re.findall(r'"S\.(\d+)"', text)}
    assert marked >= set(range(1, 17)) - {13}
