"""Workers of a server that vanished: found by what the journal and their environment say."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from zmqruntime.execution._worker import MARK
from zmqruntime.processes._identity import identity_of, is_alive, signal_process, wait_for_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime.processes._identity import Identity

__all__ = ["stop_survivors"]

_PATIENCE_S = 5.0


def stop_survivors(noted: Sequence[Identity], *, mark: str) -> list[Identity]:
    """End the processes that a former server of the same journal has left.

    Parameters
    ----------
    noted
        Workers that the journal names, by pid and start time.
    mark
        What the server puts into the environment of its workers, which what they start inherits.

    Returns
    -------
    list[Identity]
        Those that were ended.

    Notes
    -----
    A process is signalled only if it is exactly a noted one, or carries the mark as a worker
    does, or as what a worker started does and is still in the session of that worker: a service
    that a job has started for good is left alone. A server that is alive holds its journal, so
    these are nobody's.
    """
    found = [identity for identity in noted if is_alive(identity)]
    found += [identity for identity in _marked(mark) if identity not in found]
    ended = [each for each in found if signal_process(each, signal.SIGKILL)]
    for identity in ended:
        wait_for_exit(identity, _PATIENCE_S)
    return ended


def _marked(mark: str) -> list[Identity]:
    """Find the processes with the mark; none where the system does not show environments."""
    wanted = f"{MARK}={mark}"
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid == os.getpid():
            continue
        try:
            if folder.stat().st_uid != os.getuid():
                continue
            variables = (folder / "environ").read_text("utf-8", "replace").split("\0")
            session = os.getsid(pid)
        except OSError:
            continue  # it has ended, or is not ours to look at
        ours = wanted in variables or f"{wanted}:{session}" in variables
        if ours and (identity := identity_of(pid)) is not None:
            found.append(identity)
    return found
