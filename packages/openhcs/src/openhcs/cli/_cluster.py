"""Where a run's tasks are done: on this computer, on a Dask cluster, or in jobs of SLURM."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from openhcs.cli._arguments import at_least_one
from openhcs.cli._console import say

if TYPE_CHECKING:
    import argparse
    import threading
    from collections.abc import Iterator

    from rich.console import Console

    from openhcs.execution import DaskExecutor

__all__ = ["add_cluster_options", "check_cluster_options", "opened_executor"]

_GLANCE_S = 1.0


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a cluster."""
    group = parser.add_argument_group("on a cluster")
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="Dask scheduler, such as tcp://host:8786 or tls://host:8786",
    )
    where.add_argument(
        "--slurm", action="store_true", help="submit jobs to SLURM for --workers N processes"
    )
    group.add_argument(
        "--cores",
        type=at_least_one,
        metavar="N",
        help="with --slurm: worker processes, and cores, of one job (default: 1)",
    )
    group.add_argument("--job-memory", metavar="SIZE", help="with --slurm: of one job, such as 8GB")
    group.add_argument("--walltime", metavar="TIME", help="with --slurm: such as 04:00:00")
    group.add_argument(
        "--slurm-options",
        type=Path,
        metavar="FILE.toml",
        help="with --slurm: further arguments of dask_jobqueue.SLURMCluster, such as queue",
    )


def check_cluster_options(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises
    ------
    MisuseError
        If some do not.
    """
    from openhcs._errors import MisuseError

    if arguments.dask is not None and arguments.workers is not None:
        message = "--dask uses the workers that its cluster has: leave --workers out"
        raise MisuseError(message)
    if arguments.slurm and arguments.workers is None:
        message = "--slurm submits jobs for as many processes as you say: give --workers N"
        raise MisuseError(message)
    for name in ("cores", "job_memory", "walltime", "slurm_options"):
        if getattr(arguments, name) is not None and not arguments.slurm:
            message = f"--{name.replace('_', '-')} is for jobs of SLURM: give --slurm too"
            raise MisuseError(message)


@contextmanager
def opened_executor(
    arguments: argparse.Namespace, out: Path, cancel: threading.Event, console: Console
) -> Iterator[DaskExecutor | None]:
    """Give what does the tasks of a run; None for processes of its own.

    Parameters
    ----------
    arguments
        Of the command.
    out
        The result folder.
    cancel
        Set, a wait for the first worker ends.
    console
        Told what is waited for.

    Raises
    ------
    ClusterError
        If the cluster cannot be used.
    """
    if getattr(arguments, "dask", None) is not None:
        from openhcs.execution import DaskExecutor

        with DaskExecutor(arguments.dask) as executor:
            _leave_out_tracebacks()
            yield executor
    elif getattr(arguments, "slurm", False):
        with _slurm(arguments, out, cancel, console) as executor:
            _leave_out_tracebacks()
            yield executor
    else:
        yield None


def _leave_out_tracebacks() -> None:
    """Keep Dask's client, once imported, from logging its own: wells say what they lost."""
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)


@contextmanager
def _slurm(
    arguments: argparse.Namespace, out: Path, cancel: threading.Event, console: Console
) -> Iterator[DaskExecutor]:
    from openhcs.execution import SlurmJobs, slurm_executor

    options = arguments.slurm_options
    jobs = SlurmJobs(
        workers=arguments.workers,
        per_job=arguments.cores or 1,
        memory=arguments.job_memory,
        walltime=arguments.walltime,
        options={} if options is None else SlurmJobs.read_options(options),
    )
    shared = out.absolute() / "work" / "slurm"
    with slurm_executor(jobs, shared, tell=partial(say, console)) as executor:
        if executor.workers == 0:
            say(console, "Waiting until SLURM starts a first worker; Ctrl-C gives up.")
            while not cancel.is_set() and not executor.wait_for_worker(_GLANCE_S):
                pass
        yield executor
