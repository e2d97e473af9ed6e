"""What a run found, as one page that opens anywhere."""

from openhcs.report._page import write_report
from openhcs.report._plate import Measure, PlateView, ReportWell, load_plate_view
from openhcs.report._thumbnails import well_thumbnails

__all__ = [
    "Measure",
    "PlateView",
    "ReportWell",
    "load_plate_view",
    "well_thumbnails",
    "write_report",
]
