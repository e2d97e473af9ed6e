"""What tests of openhcs may ask for."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import pytest

from openhcs.testing.viewers import ShownRun

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# linux/capability.h, version 3: two words each of effective, permitted and inheritable bits.
_CAPABILITY_VERSION = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


@pytest.fixture
def shown_run(tmp_path: Path) -> ShownRun:
    """A run of three wells that have not been finished yet."""
    return ShownRun(tmp_path)


@pytest.fixture
def permissions_bind() -> Iterator[None]:
    """Let permissions of files bind this thread although it may be root's, as they bind users."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0, os.strerror(ctypes.get_errno())
    bound = (ctypes.c_uint32 * 6)(*held)
    bound[0] &= ~(1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH)
    assert libc.capset(header, bound) == 0, os.strerror(ctypes.get_errno())
    yield
    assert libc.capset(header, held) == 0, os.strerror(ctypes.get_errno())
