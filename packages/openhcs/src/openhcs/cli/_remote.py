"""``openhcs run --server``: a run on another computer, followed from here."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._words import counted
from openhcs.cli._console import printable, say
from openhcs.cli._keys import OWN_KEYS, key_folder
from openhcs.cli._server_options import PORT
from openhcs.cli._status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from rich.console import Console

    from openhcs.execution import RunResult, WellResult
    from openhcs.pipeline import Event
    from openhcs.server import RunClient
    from zmqruntime import Endpoint
    from zmqruntime.execution import JobRecord
    from zmqruntime.security import KeyFolder

__all__ = [
    "connected",
    "fetch_and_tell",
    "follow_and_tell",
    "plan_on_server",
    "run_on_server",
    "what_happened",
]

_CONNECT_S = 15.0
_HEARD_S, _AGAIN_S = 3.0, 0.2
"""How long a request to cancel waits for the server and its answer, and then until the next."""


def run_on_server(arguments: argparse.Namespace, console: Console) -> int:
    """Submit a run, follow it, and bring its results.

    Raises
    ------
    MisuseError
        If the server refuses it.
    ServerError
        If the server is away.
    """
    from openhcs.cli._submission import submission_of

    with connected(arguments, console) as client:
        submission = submission_of(arguments, client.endpoint, console)
        submitted = client.submit_run(submission)
        job = submitted.job
        if submitted.followed:
            say(console, f"This run is under way already, as job {job}.")
        else:
            say(console, f"Accepted as job {job}.")
        if arguments.detach:
            say(console, f"Follow it with: openhcs jobs follow {job} --server {arguments.server}")
            return ExitStatus.DONE
        try:
            return follow_and_tell(client, job, arguments.out, console)
        except KeyboardInterrupt:  # before it was followed, or while results are brought
            say(console, f"Job {job} stays on the server; `openhcs jobs` tells of it.")
            raise


def plan_on_server(arguments: argparse.Namespace, console: Console) -> int:
    """Show what a run would do and need on the server, without submitting it.

    Raises
    ------
    MisuseError
        If the server refuses it.
    ServerError
        If the server is away.
    """
    from openhcs.cli._submission import submission_of

    with connected(arguments, console) as client:
        submission = submission_of(arguments, client.endpoint, console)
        width = min(1000, max(20, console.width))
        answer = client.plan_run(submission, width=width, as_json=arguments.json)
    print(printable(answer.told), end="")
    print(printable(answer.wrong), end="", file=sys.stderr)
    return answer.status


@contextmanager
def connected(arguments: argparse.Namespace, console: Console) -> Iterator[RunClient]:
    """Give a client that is connected to the server; what it is refused is told in our words.

    Raises
    ------
    MisuseError
        If the server refuses what it is asked.
    ServerError
        If it is not there, or away for too long.
    """
    from openhcs._errors import MisuseError, ServerError
    from openhcs.server import RunClient
    from zmqruntime import RequestError, ZmqRuntimeError

    endpoint = _endpoint(arguments.server)
    try:
        keys = key_folder(arguments)
        if keys is not None and arguments.keys != OWN_KEYS:
            _check_known(keys, endpoint)
        with RunClient(endpoint, keys=keys) as client:
            client.connect_or_raise(_CONNECT_S)
            client.client.on_lost(lambda _: say(console, "The server is away; waiting for it."))
            yield client
    except RequestError as error:
        if error.retryable:
            raise ServerError(str(error)) from error
        raise MisuseError(str(error)) from error
    except ZmqRuntimeError as error:
        raise ServerError(str(error)) from error


def _check_known(keys: KeyFolder, endpoint: Endpoint) -> None:
    """Refuse a folder that was named and has no key of the server: it would go unused."""
    from openhcs._errors import MisuseError
    from openhcs.server._settings import known_keys

    if known_keys(keys, endpoint.host, endpoint.port) is None:
        message = (
            f"--keys: {keys.path} has no key of {endpoint.host}: zmqruntime keys trust "
            f"{endpoint.host} SERVER.pub --folder {keys.path}"
        )
        raise MisuseError(message)


def follow_and_tell(client: RunClient, job: str, out: Path | None, console: Console) -> int:
    """Follow a run to its end, bring its results, and sum up.

    Parameters
    ----------
    client
        Connected to the server.
    job
        Name of the job.
    out
        Folder to bring the results to; None leaves them where they are.
    console
        Where it is shown.

    Raises
    ------
    ServerError
        If the run failed before it began, or was lost.
    """
    from openhcs._errors import ServerError
    from openhcs.cli._interrupt import cancel_on_interrupt
    from openhcs.cli._progress import RunDisplay
    from openhcs.cli._summary import sum_up
    from zmqruntime.execution import ExecutionStatus

    cancel, unheard = threading.Event(), threading.Event()
    seen = _Seen()
    with (
        RunDisplay(console) as display,
        cancel_on_interrupt(cancel, console, display, unheard=unheard),
        _cancelling(client, job, cancel, unheard, console),
    ):

        def tell(event: Event) -> None:
            seen(event)
            display(event)

        position = client.status(job).position
        if position:
            before = f"{position - 1} more wait before it" if position > 1 else "it is the next"
            say(console, f"Waiting for its turn: {before}.")
        record = client.follow(job, tell)
    if record.state is ExecutionStatus.CANCELLED:
        say(console, "Stopped. Give the same command to go on: what is finished is not done again.")
        return ExitStatus.STOPPED
    if record.state is not ExecutionStatus.COMPLETED:
        raise ServerError(what_happened(record))
    value = client.result(job)
    where = Path(value["out"]) if out is None else out
    if out is not None:
        fetch_and_tell(client, value["results"], out, console)
    result = seen.result(value, where)
    sum_up(result, console)
    if out is None:
        say(console, f"They are on the server, under the name {value['results']}")
    else:
        say(console, f"Report:  {out / 'report.html'}")
    if value["viewer"]:
        say(console, f"Viewer:  {value['viewer']}")
    return ExitStatus.DONE if result.completed else ExitStatus.FAILED


def fetch_and_tell(client: RunClient, results: str, out: Path, console: Console) -> None:
    """Bring results here, with a bar on a terminal."""
    from rich.filesize import decimal
    from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

    from openhcs.server import fetch_results

    with Progress(
        "fetching",
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)
        fetched = fetch_results(
            client,
            results,
            out,
            on_progress=lambda here, total: bar.update(task, completed=here, total=total),
        )
    say(console, f"Fetched {counted(fetched.files, 'file')}, {decimal(fetched.size_bytes)}")


class _Seen:
    """What the events of a run say of how it ended."""

    def __init__(self) -> None:
        self._order: tuple[str, ...] = ()
        self._wells: dict[str, WellResult] = {}

    def __call__(self, event: Event) -> None:
        from openhcs.execution import WellResult
        from openhcs.pipeline import RunStarted, WellFinished

        if isinstance(event, RunStarted):
            self._order, self._wells = event.wells, {}
        elif isinstance(event, WellFinished):
            self._wells[event.well] = WellResult(
                well=event.well,
                outcome=event.outcome,
                seconds=event.seconds,
                reused=event.reused,
                images=event.images,
                error=event.error,
                traceback=None,
                steps={},
            )

    def result(self, value: dict[str, Any], out: Path) -> RunResult:
        """Give the end of the run, as a run from here gives it."""
        from openhcs.execution import RunResult
        from openhcs.pipeline import Outcome

        return RunResult(
            run_id=value["run_id"],
            out=out,
            outcome=Outcome(value["outcome"]),
            wells=tuple(self._wells[well] for well in self._order if well in self._wells),
            seconds=value["seconds"],
            step_seconds={},
            reason=value["reason"],
            notes=tuple(value["notes"]),
        )


@contextmanager
def _cancelling(
    client: RunClient,
    job: str,
    cancel: threading.Event,
    unheard: threading.Event,
    console: Console,
) -> Iterator[None]:
    """Cancel a job, and no other, when a request to stop comes; on a thread of its own.

    A server that is away is asked again until it is back; `unheard` is set meanwhile.
    """
    from zmqruntime import RequestError, ZmqRuntimeError

    over = threading.Event()

    def work() -> None:
        cancel.wait()
        while not over.is_set():
            try:
                client.cancel(job, timeout=_HEARD_S)
            except ZmqRuntimeError as error:
                if isinstance(error, RequestError) and not error.retryable:
                    say(console, f"Not cancelled: {error}", "red")
                    return
                if not (unheard.is_set() or over.is_set()):
                    unheard.set()
                    say(console, "The server is away: the run is cancelled when it is back.")
                    say(console, "Ctrl-C again leaves the run as it is.")
            else:
                unheard.clear()
                return
            over.wait(_AGAIN_S)

    thread = threading.Thread(target=work, name="cancel", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        cancel.set()
        if not unheard.is_set():  # else closing the client ends what it waits for
            thread.join()


def what_happened(record: JobRecord) -> str:
    """Say why a run was not done, without the name of an error."""
    if record.state == "lost":
        return f"the run was lost: {record.message}. Give the same command to go on"
    return re.sub(r"^\w+Error: ", "", record.message)


def _endpoint(text: str) -> Endpoint:
    from openhcs._errors import MisuseError
    from zmqruntime import Endpoint, EndpointError

    try:
        return Endpoint.parse(text if ":" in text else f"{text}:{PORT}")
    except EndpointError as error:
        message = f"--server: {error}"
        raise MisuseError(message) from error
