from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polystore import Payload
from polystore.backends import DiskStore
from polystore.files._room import reserve

if TYPE_CHECKING:
    from pathlib import Path

PLANE = np.random.default_rng(0).integers(0, 2**16, (700, 900), np.uint16)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reserves room")


@pytest.mark.parametrize("dtype", ["bool", "u1", "u2", ">u2", "f8"])
@pytest.mark.parametrize("suffix", [".npy", ".tif", ".ome.tif"])
def test_what_is_stored_takes_no_more_room_than_it_needs(
    tmp_path: Path, suffix: str, dtype: str
) -> None:
    store = DiskStore(tmp_path)
    store.store(f"a{suffix}", Payload(data=(PLANE % 2).astype(dtype)))
    found = (tmp_path / f"a{suffix}").stat()
    assert found.st_blocks * 512 <= found.st_size + found.st_blksize


def test_room_is_taken_before_anything_is_written_and_the_file_stays_as_long_as_it_is(
    tmp_path: Path,
) -> None:
    with (tmp_path / "a").open("wb") as stream:
        reserve(stream, 1_000_000)
        found = os.fstat(stream.fileno())
        assert found.st_size == 0
        assert found.st_blocks * 512 >= 1_000_000
        stream.write(b"abc")
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_a_disk_without_room_says_so_before_the_first_byte(tmp_path: Path) -> None:
    # no file system has 8 EiB; that of a full disk is tried in faults
    with (tmp_path / "a").open("wb") as stream:
        with pytest.raises(OSError, match=r".") as caught:
            reserve(stream, 2**62)
        assert caught.value.errno in {errno.ENOSPC, errno.EFBIG}
        assert os.fstat(stream.fileno()).st_blocks == 0


def test_what_is_no_file_of_a_disk_is_written_without() -> None:
    reserve(io.BytesIO(), 10**9)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), os.fdopen(writing, "wb") as stream:
        reserve(stream, 10**9)
