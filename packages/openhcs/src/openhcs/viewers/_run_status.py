"""What a run says of its wells to a viewer, over the control channel."""

from __future__ import annotations

import msgspec

__all__ = ["RunWells", "WellStatus"]


class WellStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a well stands.

    Attributes
    ----------
    well
        Its name.
    state
        ``queued``, ``running``, ``ok``, ``failed``, ``lost`` or ``cancelled``.
    note
        A sentence, such as what went wrong.
    """

    well: str
    state: str
    note: str = ""


class RunWells(msgspec.Struct, frozen=True, kw_only=True):
    """A run, and those of its wells that there is something new to say of.

    Attributes
    ----------
    run
        Identity of the run.
    plate
        What tells its plate from others: the component of its images.
    title
        Name of the plate for people.
    wells
        All of them at first, then those that changed.
    """

    run: str
    plate: str = ""
    title: str = ""
    wells: tuple[WellStatus, ...] = ()
