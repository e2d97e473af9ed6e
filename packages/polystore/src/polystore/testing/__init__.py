"""Doubles and suites for those who build on polystore."""

from __future__ import annotations

from polystore.testing._clock import FakeClock

__all__ = ["FakeClock"]
