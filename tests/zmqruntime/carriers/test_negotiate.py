"""Shared memory only where the same host is proved; inline everywhere else, never an error."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from zmqruntime import (
    Carrier,
    CarrierReason,
    DescriptorError,
    Item,
    Publisher,
    Subscriber,
    ZMQClient,
)
from zmqruntime.carriers import HostIdentity, Probe, SegmentName
from zmqruntime.carriers._negotiate import answer_probe, judge
from zmqruntime.testing import serve_in_thread

if TYPE_CHECKING:
    from pathlib import Path

ME = HostIdentity.mine()
"""This process."""


def test_who_can_read_the_secret_proves_the_host(shm: Path) -> None:
    with Probe(directory=shm) as probe:
        answer = answer_probe(probe.name, challenge=probe.challenge, directory=shm)
        assert probe.verify(answer)
        assert not probe.verify(answer[:-1] + ("0" if answer[-1] != "0" else "1"))
        assert not probe.verify("")
        assert not probe.verify("ü")
        other = answer_probe(probe.name, challenge="another exchange", directory=shm)
        assert not probe.verify(other)
    with pytest.raises(DescriptorError, match="cannot be opened"):
        answer_probe(probe.name, challenge=probe.challenge, directory=shm)


@pytest.mark.parametrize("challenge", ["", "x" * 65])
def test_an_unusable_challenge_is_refused(shm: Path, challenge: str) -> None:
    with Probe(directory=shm) as probe, pytest.raises(DescriptorError, match="challenge"):
        answer_probe(probe.name, challenge=challenge, directory=shm)


def test_a_probe_is_read_only_if_it_is_one(shm: Path) -> None:
    name = str(SegmentName.mine())
    (shm / name).write_bytes(b"s" * 65)
    with pytest.raises(DescriptorError, match="is no probe"):
        answer_probe(name, challenge="c", directory=shm)
    for foreign in ("/etc/hostname", "../../etc/hostname", "psm_abc"):
        with pytest.raises(DescriptorError, match="not the name"):
            answer_probe(foreign, challenge="c", directory=shm)


@pytest.mark.parametrize(
    ("theirs", "proved", "reason"),
    [
        ({}, True, CarrierReason.PROVED),
        ({}, False, CarrierReason.PROBE_UNREADABLE),
        ({"digest": "of another boot"}, True, CarrierReason.OTHER_BOOT),
        ({"digest": ""}, True, CarrierReason.PLATFORM),
        ({"uid": os.getuid() + 1}, True, CarrierReason.UID),
    ],
)
def test_each_doubt_means_inline(
    theirs: dict[str, object], proved: bool, reason: CarrierReason
) -> None:
    found = judge(ME, msgspec.structs.replace(ME, **theirs), proved=proved)
    assert found is reason
    assert found.carrier is (Carrier.ARENA if reason is CarrierReason.PROVED else Carrier.INLINE)


def test_pids_count_only_in_one_namespace() -> None:
    assert ME.sees_pid_of(ME)
    assert not ME.sees_pid_of(msgspec.structs.replace(ME, pid_namespace=1))
    assert not ME.sees_pid_of(msgspec.structs.replace(ME, digest="of another boot"))


@pytest.mark.req("000.18")
@pytest.mark.req("B.3")
@pytest.mark.parametrize(
    ("sender", "receiver", "reason"),
    [
        (True, True, CarrierReason.PROVED),
        (False, True, CarrierReason.DISABLED),
        (True, False, CarrierReason.DISABLED),
    ],
)
def test_both_ends_must_want_shared_memory(
    shm: Path, sender: bool, receiver: bool, reason: CarrierReason
) -> None:
    with (
        serve_in_thread() as server,
        Subscriber(server, use_shared_memory=receiver, directory=shm),
        ZMQClient(server.endpoint) as client,
    ):
        client.connect()
        with Publisher(client, "images", use_shared_memory=sender, directory=shm) as publisher:
            assert publisher.wait_attached(5)
            assert publisher.state.carrier_reason is reason
            assert list(shm.iterdir()) == []


@pytest.mark.req("B.3")
def test_one_kernel_with_separate_shared_memory_falls_back_to_inline(
    shm: Path, tmp_path: Path
) -> None:
    with (
        serve_in_thread() as server,
        Subscriber(server, directory=tmp_path) as subscriber,
        ZMQClient(server.endpoint) as client,
    ):
        client.connect()
        with Publisher(client, "images", directory=shm) as publisher:
            publisher.publish(b"", [b"x" * 100_000], key="A01", timeout=15)
            assert publisher.state.carrier_reason is CarrierReason.PROBE_UNREADABLE
            assert publisher.counters["inline"] == 1
            assert subscriber.wait(15)
            (item,) = subscriber.receive()
            assert isinstance(item, Item)
            assert item.lease.copy() == (b"x" * 100_000,)
            assert list(shm.iterdir()) == []


@pytest.mark.req("S.9")
@pytest.mark.parametrize("pid", [-1, 1 << 31, 1 << 70])
def test_a_process_id_that_no_system_has_is_refused_before_anybody_asks_the_kernel(
    pid: int,
) -> None:
    told = msgspec.to_builtins(HostIdentity.mine())
    assert msgspec.convert(told, HostIdentity) == HostIdentity.mine()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({**told, "pid": pid}, HostIdentity)
