"""Stands in for TensorFlow: devices by name, and none of them a GPU."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["config", "device"]


def _threads(number: int) -> None:
    assert number > 0


@contextmanager
def device(name: str) -> Iterator[None]:
    assert name in ("/CPU:0", "/GPU:0")
    yield


def _devices(kind: str) -> list[str]:
    assert kind == "GPU"
    return []


config = SimpleNamespace(
    list_physical_devices=_devices,
    experimental=SimpleNamespace(set_memory_growth=None),
    threading=SimpleNamespace(
        set_intra_op_parallelism_threads=_threads, set_inter_op_parallelism_threads=_threads
    ),
)
