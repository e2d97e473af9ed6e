"""Showing a run while it goes on: the feed that sends, the services that show."""

from openhcs.viewers._feed import FeedReport, NapariFeed
from openhcs.viewers._launch import napari_command, napari_service
from openhcs.viewers._receiver import Receiver
from openhcs.viewers._run_status import RunWells, WellStatus
from openhcs.viewers._sink import NapariStreamingBackend, NapariStreamingConfig

__all__ = [
    "FeedReport",
    "NapariFeed",
    "NapariStreamingBackend",
    "NapariStreamingConfig",
    "Receiver",
    "RunWells",
    "WellStatus",
    "napari_command",
    "napari_service",
]
