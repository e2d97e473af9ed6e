"""Synthetic plates with known truth, for tests and the demonstration."""

from __future__ import annotations

from openhcs.testing._assay import default_condition
from openhcs.testing._faults import Fault, FaultKind, InjectedFault
from openhcs.testing._format_tests import FormatTests
from openhcs.testing._perfect import noise_free_mosaic, noise_free_tile
from openhcs.testing._plates import synthetic_plate
from openhcs.testing._spec import Condition, Hole, PlaneKey, PlateSpec
from openhcs.testing._stamp import Stamp, decode_stamp, encode_stamp
from openhcs.testing._truth import PlateTruth, read_truth

__all__ = [
    "Condition",
    "Fault",
    "FaultKind",
    "FormatTests",
    "Hole",
    "InjectedFault",
    "PlaneKey",
    "PlateSpec",
    "PlateTruth",
    "Stamp",
    "decode_stamp",
    "default_condition",
    "encode_stamp",
    "noise_free_mosaic",
    "noise_free_tile",
    "read_truth",
    "synthetic_plate",
]
