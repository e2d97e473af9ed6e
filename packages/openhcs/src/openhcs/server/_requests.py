"""The request of an order, as it is done on this computer."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from openhcs.server._orders import request_of
from openhcs.server._places import check_places
from polystore.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from openhcs.pipeline import RunRequest
    from openhcs.server._messages import Order, TextFile
    from openhcs.server._settings import ServerSettings

__all__ = ["as_submitted", "ordered_request"]

_DIGITS = 16
"""Of the folder of a table, which tells what is in it."""


def ordered_request(order: Order, settings: ServerSettings) -> RunRequest:
    """Give the request of an order with the paths of this computer, which are looked at once more.

    Parameters
    ----------
    order
        What the server has accepted.
    settings
        What it allows.

    Raises
    ------
    PlateError
        If a file is gone, or leads out of its root now.
    """
    check_places(order.places, settings.roots)
    submission = order.submission
    request = request_of(submission).with_files(order.places.__getitem__)
    tables: dict[str, Any] = {
        name: str(_put_down(table, settings.tables))
        for name, table in (("platemap", submission.platemap), ("files", submission.files))
        if table is not None
    }
    return replace(request, **tables)


def as_submitted(text: str, settings: ServerSettings) -> str:
    """Name tables in a message as they were sent, and not where they lie on this computer."""
    return re.sub(rf"{re.escape(str(settings.tables))}/[0-9a-f]{{{_DIGITS}}}/", "", text)


def _put_down(table: TextFile, folder: Path) -> Path:
    """Write a table where each run of the same submission finds it, and give its path."""
    place = folder / hashlib.sha256(table.content).hexdigest()[:_DIGITS]
    place.mkdir(parents=True, exist_ok=True)
    path = place / table.name
    write_bytes(path, table.content)
    return path
