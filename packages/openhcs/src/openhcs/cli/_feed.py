"""Finds or starts the viewer that a run was asked to show itself in."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from openhcs.cli._console import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from openhcs.pipeline import Event, Plan

__all__ = ["HERE", "missing_for_viewer", "runs_on", "viewer_feed"]

_LAST_WAIT_S = 20.0
HERE = frozenset({"localhost", "127.0.0.1", "::1"})
"""Names by which this computer knows itself."""


@contextmanager
def viewer_feed(
    arguments: argparse.Namespace, plan: Plan, out: Path, console: Console
) -> Iterator[Callable[[Event], None]]:
    """Give what takes the run's events to the viewer; nothing is imported without one.

    A viewer that cannot be had is said in one line and does not keep a run from going on.
    """
    if arguments.viewer == "none":
        yield _ignore
        return
    lack = missing_for_viewer()
    host = arguments.viewer_host or "localhost"
    if lack and host in HERE and not runs_on(arguments.viewer_port):
        say(console, f"Viewer left out: {lack}")
        yield _ignore
        return
    from openhcs.viewers import NapariFeed

    feed = NapariFeed(
        out,
        plan.index.name,
        source=plan.index.root,
        host=host,
        port=arguments.viewer_port,
        tell=lambda text: say(console, text),
    )
    with feed:
        yield feed
        say(console, feed.finish(timeout=_LAST_WAIT_S).sentence)


def missing_for_viewer() -> str:
    """Say what keeps a viewer from being started here and how to get it; empty if nothing does."""
    if importlib.util.find_spec("napari") is None:
        return "napari is not installed; pip install 'openhcs[napari]' brings it"
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "there is no display; run on a desktop, or under xvfb-run"
    return ""


def runs_on(port: int) -> bool:
    """Say whether a viewer runs here already, with a display of its own."""
    from zmqruntime import find_services

    return any(service.alive and service.port == port for service in find_services())


def _ignore(event: Event) -> None:
    """Take an event and do nothing: no viewer was asked for."""
