"""Doubles and suites for those who build on polystore; strategies are in ``testing.strategies``."""

from __future__ import annotations

from polystore.testing._backends import BackendTests, Store
from polystore.testing._clock import FakeClock
from polystore.testing._codecs import CodecTests
from polystore.testing._equal import assert_equal, assert_same_data
from polystore.testing._formats import FormatTests
from polystore.testing._readers import ReaderTests
from polystore.testing._samples import Sample, samples
from polystore.testing._sinks import SinkTests
from polystore.testing._viewer import StandInViewer

__all__ = [
    "BackendTests",
    "CodecTests",
    "FakeClock",
    "FormatTests",
    "ReaderTests",
    "Sample",
    "SinkTests",
    "StandInViewer",
    "Store",
    "assert_equal",
    "assert_same_data",
    "samples",
]
