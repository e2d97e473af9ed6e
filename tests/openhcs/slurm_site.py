"""A SLURM of one computer, from its own daemons: a site for tests, gone with them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["MISSING", "SlurmSite"]

_DAEMONS = {
    name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    for name in ("munged", "slurmctld", "slurmd", "sbatch")
}
MISSING = [name for name, path in _DAEMONS.items() if path is None]
_STARTS_S = 60.0
_CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=64000 State=UNKNOWN
PartitionName=screens Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class SlurmSite:
    """A controller and a node of eight cores, whatever this computer has.

    Attributes
    ----------
    conf
        The file that ``SLURM_CONF`` names.
    """

    def __init__(self) -> None:
        self._host = socket.gethostname().partition(".")[0]
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._held = ExitStack()

    def __enter__(self) -> SlurmSite:
        with ExitStack() as held:
            # A socket's path is short, and pytest's folders are deep.
            self._folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
            held.callback(self._stop)
            for name in ("state", "spool"):
                (self._folder / name).mkdir()
            key = self._folder / "munge.key"
            key.write_bytes(os.urandom(1024))
            key.chmod(0o400)
            self.conf = self._folder / "slurm.conf"
            user = pwd.getpwuid(os.getuid()).pw_name
            text = _CONF.format(host=self._host, user=user, folder=self._folder, ports=_ports(2))
            self.conf.write_text(text)
            words = [f"--{name}={self._folder}/munge.{name}" for name in ("socket", "seed")]
            words += [f"--key-file={key}", f"--pid-file={self._folder}/munge.pid"]
            self._start("munged", "--foreground", "--force", f"--log-file={os.devnull}", *words)
            _until((self._folder / "munge.socket").exists)
            self.start_controller()
            self._start("slurmd", "-D", "-N", self._host)
            _until(lambda: self.run("sinfo", "--noheader", "--format=%T") == "idle")
            self._held = held.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.run("scancel", f"--user={os.getuid()}")
        self._held.close()

    def run(self, *words: str) -> str:
        """Give what a command of SLURM prints; nothing while its controller does not answer."""
        done = subprocess.run(
            words, env=self._environment(), capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def jobs(self) -> list[str]:
        """Give the numbers of the jobs that wait or run."""
        return self.run("squeue", "--noheader", "--format=%i").split()

    def drain(self, reason: str) -> None:
        """Let the node take no more jobs."""
        self.run("scontrol", "update", f"nodename={self._host}", "state=drain", f"reason={reason}")

    def resume(self) -> None:
        """Let the node take jobs again."""
        self.run("scontrol", "update", f"nodename={self._host}", "state=resume")

    def start_controller(self) -> None:
        """Start the controller, which goes on with what it knew."""
        self._start("slurmctld", "-D")

    def kill_controller(self) -> None:
        """End the controller without warning."""
        controller = self._running.pop("slurmctld")
        controller.kill()
        controller.wait()

    def _start(self, name: str, *words: str) -> None:
        path = _DAEMONS[name]
        assert path is not None
        with (self._folder / f"{name}.out").open("ab") as said:
            self._running[name] = subprocess.Popen(
                [path, *words], env=self._environment(), stdout=said, stderr=said
            )

    def _stop(self) -> None:
        for name in ("slurmd", "slurmctld", "munged"):
            daemon = self._running.pop(name, None)
            if daemon is not None:
                daemon.terminate()
                try:
                    daemon.wait(20)
                except subprocess.TimeoutExpired:
                    daemon.kill()
                    daemon.wait()

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "SLURM_CONF": str(self.conf)}


def _ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _STARTS_S
    while not condition():
        assert time.monotonic() < end, "a daemon of SLURM does not come up"
        time.sleep(0.05)
