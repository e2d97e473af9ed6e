"""Workers that SLURM starts: jobs for Dask workers, submitted by dask-jobqueue."""

from __future__ import annotations

import signal
import threading
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from openhcs._errors import ClusterError, MisuseError
from openhcs.execution._dask import DaskExecutor
from openhcs.execution._slurm_watch import JobWatch, reporting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["SlurmJobs", "slurm_executor"]

_BACK = "5 minutes"
"""How long a worker that died may take to be back; after Dask's 15 s its whole job is cancelled."""

_LOGS = "logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmJobs:
    """What to ask SLURM for.

    Attributes
    ----------
    workers
        Worker processes in all; each does one task at a time.
    per_job
        Worker processes of one job, which has as many cores.
    memory
        Memory of one job, such as ``"8GB"``; None as Dask's configuration says.
    walltime
        Longest time of a job, such as ``"04:00:00"``; None as Dask's configuration says.
    options
        Further arguments of ``dask_jobqueue.SLURMCluster``, such as ``queue``, ``account`` and
        ``job_extra_directives``.
    ask_s
        Time in s from one look at SLURM's queue to the next; its controller answers a whole site.
    """

    workers: int
    per_job: int = 1
    memory: str | None = None
    walltime: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    ask_s: float = 20.0

    @classmethod
    def read_options(cls, path: Path) -> Mapping[str, Any]:
        """Read further options from a TOML file, at its top level or in a table ``slurm``.

        Raises
        ------
        MisuseError
            If it is no TOML.
        OSError
            If it cannot be read.
        """
        try:
            found = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            message = f"{path} is no TOML file: {error}"
            raise MisuseError(message) from error
        options: Mapping[str, Any] = found.get("slurm", found)
        return options


@contextmanager
def slurm_executor(
    jobs: SlurmJobs, shared: Path, *, tell: Callable[[str], None] = lambda _: None
) -> Iterator[DaskExecutor]:
    """Submit jobs, and give what does tasks on their workers; they are cancelled when it ends.

    Jobs that end, at their walltime or because their computer went down, are submitted anew.

    The scheduler of Dask runs in this process and talks with its workers by TLS, with certificates
    for this one cluster: others who can reach its port cannot use it.

    Parameters
    ----------
    jobs
        What to ask for.
    shared
        A folder that the jobs' computers see under the same path. The certificates lie there, for
        this user alone to read, while the cluster lives; what jobs print is kept in ``logs``.
    tell
        Told, from another thread, what the jobs wait for.

    Raises
    ------
    ClusterError
        If dask-jobqueue is not installed, or something needed is not said.
    """
    with (
        _cluster(jobs, shared) as cluster,
        DaskExecutor(cluster, patience_s=None) as executor,
        JobWatch(
            cluster,
            jobs.workers,
            logs=shared / _LOGS,
            ask_s=jobs.ask_s,
            give_up=executor.give_up,
            tell=tell,
        ),
    ):
        cluster.scale(jobs.workers)
        yield executor


@contextmanager
def _cluster(jobs: SlurmJobs, shared: Path) -> Iterator[Any]:
    try:
        from dask import config
        from distributed.security import Security

        with _ctrl_c_as_it_is():
            from dask_jobqueue import SLURMCluster
            from dask_jobqueue.slurm import SLURMJob
        made = Security.temporary()
    except ImportError as error:
        message = "jobs of SLURM need dask-jobqueue and cryptography: install openhcs[slurm]"
        raise ClusterError(message) from error
    memory = jobs.memory or jobs.options.get("memory") or config.get("jobqueue.slurm.memory", None)
    if memory is None:
        message = "say how much memory a job has: --job-memory SIZE, or memory in the options"
        raise ClusterError(message)
    given = {"memory": memory, "walltime": jobs.walltime}
    shared.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=shared, prefix="keys-") as folder:
        options = {
            "security": _kept(made, Path(folder)),
            "protocol": "tls://",
            "scheduler_options": {"dashboard": False, "dashboard_address": ":0"},
            "job_name": "openhcs",
            "log_directory": str(shared / _LOGS),
            **jobs.options,
            **{name: value for name, value in given.items() if value is not None},
            "cores": jobs.per_job,
            "processes": jobs.per_job,
            "job_cls": reporting(SLURMJob),
        }
        try:
            cluster = SLURMCluster(**options)
        except (ValueError, TypeError, OSError, RuntimeError) as error:
            message = f"no cluster can be made of jobs of SLURM: {error}"
            raise ClusterError(message) from error
        with cluster, config.set({"distributed.deploy.lost-worker-timeout": _BACK}):
            yield cluster


def _kept(security: Any, folder: Path) -> Any:
    """Give the same keys and certificates as files, which jobs are told of by name."""
    paths = {}
    for name in ("tls_ca_file", "tls_worker_cert", "tls_worker_key"):
        path = folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_text(getattr(security, name), encoding="ascii")
        paths[name] = str(path)
    for role in ("client", "scheduler"):
        for kind in ("cert", "key"):
            paths[f"tls_{role}_{kind}"] = paths[f"tls_worker_{kind}"]
    return type(security)(require_encryption=True, **paths)


@contextmanager
def _ctrl_c_as_it_is() -> Iterator[None]:
    """Give Ctrl-C back to whom it belongs: importing dask_jobqueue takes it for itself."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
