"""Finds the napari service, or starts it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from openhcs._errors import ViewerError

if TYPE_CHECKING:
    from zmqruntime import Endpoint, ZMQServiceManager
    from zmqruntime.security import KeyFolder

__all__ = ["NAPARI", "napari_command", "napari_service", "viewer_log"]

NAPARI: Final = "napari"


def napari_command(port: int, *, bind: str = "127.0.0.1", insecure: bool = False) -> list[str]:
    """Give the command line of the napari service.

    Parameters
    ----------
    port
        Control port; images come in on the port 1000 above.
    bind
        Address to listen on.
    insecure
        Listen beyond this computer without keys.
    """
    words = [sys.executable, "-m", "openhcs.viewers.napari", "--port", str(port), "--bind", bind]
    return [*words, "--insecure"] if insecure else words


def napari_service(
    endpoint: Endpoint, *, keys: KeyFolder | None = None, launch: bool = True
) -> ZMQServiceManager:
    """Give what connects to napari at an endpoint, and starts it there if it does not run.

    A viewer that is started lives on when the run ends, and is found again by the next one. On
    another computer it is only connected to.

    Parameters
    ----------
    endpoint
        Where it is, or is to be.
    keys
        Keys to show to a viewer that asks for them, and those of the viewers that are known.
    launch
        Whether to start a viewer on this computer where none runs.

    Raises
    ------
    ViewerError
        If it would have to be started and napari is not installed.
    """
    from zmqruntime import ZMQServiceManager

    if not (endpoint.is_loopback and launch):
        return ZMQServiceManager(NAPARI, endpoint, client_app="openhcs", role="producer", keys=keys)
    if importlib.util.find_spec("napari") is None:
        message = "napari is not installed here: pip install 'openhcs[napari]'"
        raise ViewerError(message)
    return ZMQServiceManager(
        NAPARI,
        endpoint,
        command=napari_command(endpoint.port),
        log_path=viewer_log(endpoint.port),
        persistent=True,
        client_app="openhcs",
        role="producer",
    )


def viewer_log(port: int) -> Path:
    """Give the file that a started viewer writes to."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = state / "openhcs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"napari-{port}.log"
