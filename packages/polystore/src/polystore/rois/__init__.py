"""Regions as ImageJ keeps them: one ROI as bytes, and a ROI set as a zip file."""

from __future__ import annotations

from polystore.rois._limits import RoiLimits
from polystore.rois._read import from_rois
from polystore.rois._write import to_rois
from polystore.rois._zip import read_roi_zip, write_roi_zip

__all__ = ["RoiLimits", "from_rois", "read_roi_zip", "to_rois", "write_roi_zip"]
