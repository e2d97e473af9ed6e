"""Finds or starts the viewer that a run was asked to show itself in."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rich.console import Console

    from openhcs.pipeline import Event, Plan

__all__ = ["viewer_feed"]

_LAST_WAIT_S = 20.0


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
    from openhcs.viewers import NapariFeed

    feed = NapariFeed(
        out,
        plan.index.name,
        host=arguments.viewer_host,
        port=arguments.viewer_port,
        tell=lambda text: console.print(text, markup=False),
    )
    with feed:
        yield feed
        console.print(feed.finish(timeout=_LAST_WAIT_S).sentence, markup=False)


def _ignore(event: Event) -> None:
    """Take an event and do nothing: no viewer was asked for."""
