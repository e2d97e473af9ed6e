"""Pushes: what a service says of itself, read; what cannot be read changes nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import msgspec

from zmqruntime._typed import from_plain

if TYPE_CHECKING:
    from zmqruntime.control._client import ControlClient

__all__ = ["read_push"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


def read_push(control: ControlClient, body: object, shape: type[T]) -> T | None:
    """Read a push, an answer that nobody waits for, or a part of one.

    Parameters
    ----------
    control
        Connection on which it came.
    body
        What was said.
    shape
        What it should be.

    Returns
    -------
    object
        None if it is something else, which is counted (``bad_frame``) and logged in one line.
    """
    try:
        return from_plain(body, shape)
    except msgspec.ValidationError as error:
        control.counters["bad_frame"] += 1
        logger.warning("%s said what cannot be read: %s", control.url, error)
        return None
