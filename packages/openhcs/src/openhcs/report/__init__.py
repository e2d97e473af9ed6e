"""What a run found, as one page that opens anywhere."""

from openhcs.report._figures import write_figures
from openhcs.report._measures import Measure
from openhcs.report._page import write_report
from openhcs.report._plate import PlateView, ReportWell, load_plate_view
from openhcs.report._quality import Flag
from openhcs.report._thumbnails import PlatePictures, plate_pictures

__all__ = [
    "Flag",
    "Measure",
    "PlatePictures",
    "PlateView",
    "ReportWell",
    "load_plate_view",
    "plate_pictures",
    "write_figures",
    "write_report",
]
