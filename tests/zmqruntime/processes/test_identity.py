from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from zmqruntime import Identity
from zmqruntime.processes._identity import (
    current_identity,
    host_digest,
    identity_of,
    is_alive,
    signal_process,
    wait_for_exit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "import signal; print('up', flush=True); signal.pause()"
SOON = 15.0  # seconds; far more than any of this takes


@contextmanager
def sleeper() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        try:
            yield process
        finally:
            process.kill()


def test_this_process_knows_itself() -> None:
    me = current_identity()
    assert me.pid == os.getpid()
    assert is_alive(me)
    assert len(host_digest()) == 32
    assert me.boot_id not in host_digest()


def test_a_later_process_with_the_same_pid_is_another() -> None:
    me = current_identity()
    assert not is_alive(msgspec.structs.replace(me, start_time=me.start_time - 1))
    assert not is_alive(msgspec.structs.replace(me, boot_id="another boot"))


def test_what_is_left_of_a_process_that_was_not_waited_for_is_not_alive() -> None:
    with sleeper() as process:
        identity = identity_of(process.pid)
        assert identity is not None
        process.kill()
        assert wait_for_exit(identity, SOON)
        assert not is_alive(identity)


@pytest.mark.req("S.15")
def test_only_exactly_this_process_is_signalled() -> None:
    with sleeper() as process:
        identity = identity_of(process.pid)
        assert identity is not None
        other = msgspec.structs.replace(identity, start_time=identity.start_time - 1)
        assert not signal_process(other, signal.SIGKILL)
        assert process.poll() is None
        assert not wait_for_exit(identity, 0.01)
        assert signal_process(identity, signal.SIGTERM)
        assert process.wait(SOON) == -signal.SIGTERM
        assert not signal_process(identity, signal.SIGTERM)
        assert wait_for_exit(identity, SOON)


def test_nobody_has_a_pid_that_nobody_has() -> None:
    with sleeper() as process:
        pid = process.pid
    assert identity_of(pid) is None
    gone = Identity(pid=pid, start_time=1, boot_id="x")
    assert wait_for_exit(gone, 0.0)
    assert not signal_process(gone, signal.SIGTERM)
