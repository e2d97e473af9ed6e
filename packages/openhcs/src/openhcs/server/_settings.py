"""What a server allows, and where it keeps things; its workers are told the same."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from zmqruntime.security import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TABLES", "ServerSettings", "known_keys"]

TABLES: Final = "OPENHCS_TABLES"
"""Variable that names another folder for tables than that of submissions."""

_VARIABLE: Final = "OPENHCS_SERVER"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What a server allows, and where it keeps things.

    Parameters
    ----------
    roots
        Folders with plates, by the name under which submitters know them.
    results
        Folder for results: one below it for each submitter, and in that one for each name.
    state
        Folder for the jobs and for what is known of them.
    workers
        Worker processes of one run, at least 1.
    memory_bytes
        What the workers of one run may hold together; None for four fifths of what is available.
    runs
        How many runs go on at once.
    waiting
        How many runs of one submitter may wait for their turn.
    keys
        Folder of keys; None serves the programs of this user on this computer alone.

    Raises
    ------
    ValueError
        If a number is less than 1, or a root has no usable name.
    """

    roots: Mapping[str, Path]
    results: Path
    state: Path
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    memory_bytes: int | None = None
    runs: int = 1
    waiting: int = 1000
    keys: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be, and make every path absolute."""
        for name in ("workers", "runs", "waiting"):
            if getattr(self, name) < 1:
                message = f"{name} is {getattr(self, name)}: expected at least 1"
                raise ValueError(message)
        for name in self.roots:
            if not name or "/" in name or "\\" in name or name in {".", ".."}:
                message = f"{name!r} is no name of a root: use letters and digits"
                raise ValueError(message)
        roots = {name: Path(folder).absolute() for name, folder in self.roots.items()}
        object.__setattr__(self, "roots", roots)
        for name in ("results", "state"):
            object.__setattr__(self, name, Path(getattr(self, name)).absolute())

    @property
    def journal(self) -> Path:
        """File of the jobs."""
        return self.state / "jobs.db"

    @property
    def events(self) -> Path:
        """Folder with a file for each job: what happened in its run."""
        return self.state / "events"

    @property
    def tables(self) -> Path:
        """Folder of the tables that came with submissions; of a plan's, one that goes with it."""
        return Path(os.environ.get(TABLES) or self.state / "tables")

    def events_of(self, job: str) -> Path:
        """File of what happened in the run of a job."""
        return self.events / f"{job}.jsonl"

    def to_environment(self) -> dict[str, str]:
        """Give variables that tell worker processes the same."""
        values = {
            "roots": {name: str(folder) for name, folder in self.roots.items()},
            "results": str(self.results),
            "state": str(self.state),
            "workers": self.workers,
            "memory_bytes": self.memory_bytes,
            "runs": self.runs,
            "waiting": self.waiting,
            "keys": None if self.keys is None else str(self.keys),
        }
        return {_VARIABLE: json.dumps(values)}

    @classmethod
    def from_environment(cls) -> Self:
        """Read what `to_environment` gave.

        Raises
        ------
        KeyError
            Outside of a worker of a server.
        """
        values = json.loads(os.environ[_VARIABLE])
        paths = {name: Path(values[name]) for name in ("results", "state")}
        roots = {name: Path(folder) for name, folder in values["roots"].items()}
        keys = None if values["keys"] is None else Path(values["keys"])
        return cls(**values | paths | {"roots": roots, "keys": keys})


def known_keys(folder: KeyFolder | Path | None, host: str, port: int) -> KeyFolder | None:
    """Give a folder of keys where it knows who serves at an address.

    Parameters
    ----------
    folder
        The folder; None gives None.
    host, port
        The address, with the host as it is written in the folder.

    Raises
    ------
    zmqruntime.KeyFileError
        If the folder cannot be read.
    """
    if folder is None:
        return None
    keys = KeyFolder.of(folder)
    return None if keys.server_key(host, port) is None else keys
