"""Doubles and suites for those who build on polystore; strategies are in ``testing.strategies``."""

from __future__ import annotations

from polystore.testing._backends import BackendTests, Store, assert_equal, assert_same_data
from polystore.testing._clock import FakeClock
from polystore.testing._codecs import CodecTests
from polystore.testing._formats import FormatTests
from polystore.testing._samples import Sample, samples

__all__ = [
    "BackendTests",
    "CodecTests",
    "FakeClock",
    "FormatTests",
    "Sample",
    "Store",
    "assert_equal",
    "assert_same_data",
    "samples",
]
