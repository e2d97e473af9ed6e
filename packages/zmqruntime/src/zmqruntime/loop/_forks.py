"""What a process that `os.fork` makes of this one must not keep open."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["close_in_forked_children"]


class Closable(Protocol):
    """Something that holds a file of the kernel."""

    def close(self) -> None:
        """Let go of it."""


_closed_in_children: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_in_forked_children(thing: Closable) -> None:
    """Keep what we hold from staying open in a child that `os.fork` makes of us.

    Parameters
    ----------
    thing
        Is closed in the child only. A lock held by a forked worker would outlive its server.
    """
    if not _closed_in_children:
        os.register_at_fork(after_in_child=_close_all)  # twice does no harm
    _closed_in_children.add(thing)


def _close_all() -> None:
    for thing in tuple(_closed_in_children):
        thing.close()
