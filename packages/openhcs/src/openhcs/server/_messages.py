"""What is said between who submits runs and the server that does them."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = [
    "EventPage",
    "FileEntry",
    "FilePage",
    "Order",
    "PlanAnswer",
    "PlanTask",
    "Submission",
    "Submitted",
    "TextFile",
    "ViewerAddress",
]

_Name = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")]
_FileName = Annotated[str, msgspec.Meta(pattern=r"\A(?!\.{1,2}\Z)[^/\\\x00-\x1f]{1,200}\Z")]


class TextFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the submitter's own, which travels with the submission.

    Attributes
    ----------
    name
        Its name, which says how it is written.
    content
        All of it.
    """

    name: _FileName
    content: Annotated[bytes, msgspec.Meta(max_length=8 << 20)]


class ViewerAddress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a viewer listens, as the server reaches it.

    Attributes
    ----------
    host, port
        Its control channel; images go to the port 1000 above.
    """

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
    port: Annotated[int, msgspec.Meta(ge=1, le=64_535)]


class Submission(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be run, as its submitter says it.

    Attributes
    ----------
    text
        Source: of a request where there are no `options`, of a pipeline where there are; None for
        the default pipeline of the plate.
    filename
        How messages call the text.
    options
        Keywords of the request beside its pipeline, in plain form.
    results
        Name of the folder for the results, among those of the same submitter.
    platemap, files
        Tables that the submitter has; a request names none where they are given.
    force
        Do everything again, also what is finished.
    viewer
        Where images are shown as they are made; None shows them nowhere.
    """

    results: _Name
    text: Annotated[str, msgspec.Meta(max_length=4 << 20)] | None = None
    filename: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] = "<request>"
    options: dict[str, Any] | None = None
    platemap: TextFile | None = None
    files: TextFile | None = None
    force: bool = False
    viewer: ViewerAddress | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A submission that the server has accepted, as it is kept.

    Attributes
    ----------
    submission
        What was submitted.
    places
        Absolute path of each file that it names.
    out
        Absolute path of the folder for the results.
    """

    submission: Submission
    places: dict[str, str]
    out: str


class PlanTask(msgspec.Struct, frozen=True, kw_only=True):
    """What the process that makes a plan is told.

    Attributes
    ----------
    order
        What would be run.
    width
        Columns of the terminal on which it is shown.
    as_json
        Whether it is said in JSON, for a program.
    """

    order: Order
    width: Annotated[int, msgspec.Meta(ge=20, le=1000)] = 80
    as_json: bool = False


class PlanAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What ``openhcs plan`` says on the server.

    Attributes
    ----------
    status
        Its exit status: 0, or 2 where it could not run.
    told, wrong
        What it prints, and what it says is wrong.
    """

    status: int
    told: str
    wrong: str


class Submitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that the server has accepted.

    Attributes
    ----------
    job
        Name of the job.
    followed
        Whether it was under way already, submitted by the same command before.
    """

    job: str
    followed: bool


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of what happened in a run.

    Attributes
    ----------
    events
        In order, in plain form.
    next
        Where the next piece begins, in bytes.
    more
        Whether there is more already.
    known
        Number of the job's last event before this was read: what it tells of is in the piece, or
        in one before, unless there is `more`.
    """

    events: list[dict[str, Any]]
    next: int
    more: bool
    known: int


class FileEntry(msgspec.Struct, frozen=True, array_like=True):
    """A file of results.

    Attributes
    ----------
    path
        Below the result folder, with ``/``.
    size
        In bytes.
    modified
        Time of its last change, in ns since the epoch.
    """

    path: str
    size: Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
    modified: Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]


class FilePage(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a list of files.

    Attributes
    ----------
    files
        By path.
    next
        Path after which the next piece begins; None at the end.
    """

    files: list[FileEntry]
    next: str | None = None
