"""Doubles and suites for those who build on polystore; strategies are in ``testing.strategies``."""

from __future__ import annotations

from polystore.testing._backends import BackendTests, Store, assert_equal
from polystore.testing._clock import FakeClock
from polystore.testing._codecs import CodecTests

__all__ = ["BackendTests", "CodecTests", "FakeClock", "Store", "assert_equal"]
