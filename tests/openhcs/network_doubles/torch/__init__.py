"""Stands in for PyTorch: devices by name, and as many GPUs as a variable says."""

from __future__ import annotations

import os
from types import SimpleNamespace

__all__ = ["OutOfMemoryError", "cuda", "device"]


class OutOfMemoryError(RuntimeError):
    """The memory of a GPU is full."""


def device(name: str) -> str:
    return name


cuda = SimpleNamespace(
    device_count=lambda: int(os.environ.get("NETWORK_DOUBLE_GPUS", "0")),
    mem_get_info=lambda: (10**12, 10**12),
)
