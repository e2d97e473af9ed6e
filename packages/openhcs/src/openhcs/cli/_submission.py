"""What ``openhcs run --server`` submits: text, options and tables of this computer."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs.cli._console import say

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from openhcs.pipeline import RunRequest
    from openhcs.server import Submission, TextFile, ViewerAddress
    from zmqruntime import Endpoint

__all__ = ["submission_of"]

_VIEWER_S = 60.0


def submission_of(arguments: argparse.Namespace, server: Endpoint, console: Console) -> Submission:
    """Make a submission of what a user has typed.

    Parameters
    ----------
    arguments
        Of ``openhcs run``, checked.
    server
        Where it goes.
    console
        Told when the viewer is left out.

    Raises
    ------
    MisuseError
        If a file cannot be read, or the server could not reach the viewer.
    SourceError
        If the text is no text, or no request.
    """
    from openhcs.cli._selection import refuse_selection, requested
    from openhcs.pipeline import load_request
    from openhcs.server import Submission

    text: str | None = None
    options: dict[str, Any] | None = None
    if arguments.request is not None:
        refuse_selection(arguments, "--request says all that is to be run")
        request, filename = load_request(arguments.request), str(arguments.request)
        tables = _tables(request)
        text = replace(request, platemap=None, files=None).to_source()
    else:
        request = requested(arguments, None)
        tables = _tables(request)
        options = _options(request)
        filename = "default"
        if arguments.pipeline is not None:
            text, filename = _read(arguments.pipeline), str(arguments.pipeline)
    return Submission(
        text=text,
        filename=filename,
        options=options,
        results=arguments.leave or _results_name(request.plate, arguments.out or Path("RESULTS")),
        force=getattr(arguments, "force", False),
        viewer=_viewer(arguments, server, console),
        **tables,
    )


def _options(request: RunRequest) -> dict[str, Any]:
    """Give the keywords of a request in plain form, without its pipeline and tables."""
    left_out = {"pipeline", "platemap", "files", "settings"}
    options = {
        part.name: value
        for part in fields(request)
        if part.name not in left_out and (value := getattr(request, part.name)) is not None
    }
    settings = dict(request.settings.made)
    return options | ({"settings": settings} if settings else {})


def _tables(request: RunRequest) -> dict[str, TextFile]:
    """Read the tables that a request names, which are files of this computer."""
    from openhcs.server import TextFile

    return {
        name: TextFile(name=Path(path).name, content=_bytes(Path(path)))
        for name in ("platemap", "files")
        if (path := getattr(request, name)) is not None
    }


def _bytes(path: Path) -> bytes:
    from openhcs._errors import MisuseError

    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read: {error.strerror}"
        raise MisuseError(message) from error


def _read(path: Path) -> str:
    from openhcs.pipeline import read_text

    return read_text(path)


def _results_name(plate: str, out: Path) -> str:
    """Name the results on the server: the same command from the same place means the same ones."""
    mark = hashlib.sha256(f"{plate}\0{out.absolute()}".encode()).hexdigest()[:8]
    kept = "".join(sign if sign.isascii() and sign.isalnum() else "-" for sign in Path(plate).name)
    return f"{kept.strip('-')[:60] or 'plate'}-{mark}"


def _viewer(
    arguments: argparse.Namespace, server: Endpoint, console: Console
) -> ViewerAddress | None:
    """Give the address of the viewer, as the server reaches it; one on this computer is started."""
    from openhcs._errors import MisuseError
    from openhcs.cli._feed import HERE, missing_for_viewer, runs_on
    from openhcs.server import ViewerAddress

    if getattr(arguments, "viewer", "none") == "none":  # a plan shows no images
        return None
    host, port = arguments.viewer_host, arguments.viewer_port
    if host is None and not server.is_loopback:
        message = (
            "say --viewer-host NAME, the name by which the server reaches this computer, and let "
            "the viewer in first: openhcs viewer napari --bind '*' --keys"
        )
        raise MisuseError(message)
    if server.is_loopback and (host or "localhost") in HERE and not runs_on(port):
        lack = missing_for_viewer() or _start_viewer(port)
        if lack:
            say(console, f"Viewer left out: {lack}")
            return None
    return ViewerAddress(host=host or "localhost", port=port)


def _start_viewer(port: int) -> str:
    """Start a viewer here, which lives on; say what kept it from starting."""
    from openhcs.viewers import napari_service
    from zmqruntime import Endpoint, ServiceStartError

    with napari_service(Endpoint("localhost", port)) as service:
        try:
            service.connect_or_raise(_VIEWER_S)
        except ServiceStartError as error:
            return str(error)
    return ""
