"""Doubles for programs that use zmqruntime: a clock, free ports, a server in this process."""

from __future__ import annotations

from zmqruntime.testing._clock import FakeClock
from zmqruntime.testing._servers import free_endpoint, serve_in_thread

__all__ = ["FakeClock", "free_endpoint", "serve_in_thread"]
