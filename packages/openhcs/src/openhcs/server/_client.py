"""RunClient: submits runs to a server, follows them, and brings their results home."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from openhcs._typed import from_plain
from openhcs.server._events import typed_event
from openhcs.server._messages import EventPage, FileEntry, FilePage, PlanAnswer, Submitted
from openhcs.server._plans import PLAN_S
from openhcs.server._server import APP, JOB
from openhcs.server._settings import known_keys
from zmqruntime import ControlTimeout, Deadline, PeerError
from zmqruntime.execution import ExecutionStatus, ZMQExecutionClient
from zmqruntime.security import KeyFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from openhcs.pipeline import Event
    from openhcs.server._messages import Submission
    from zmqruntime import Endpoint
    from zmqruntime.execution import JobRecord

__all__ = ["RunClient"]

_T = TypeVar("_T")
_ASK_S: Final = 30.0
_PLANS: Final = 4
"""How many plans are waited for: others may come before."""
_MOST_FILES: Final = 10_000_000
_LIVE: Final = (ExecutionStatus.RUNNING, ExecutionStatus.QUEUED)


class _About(msgspec.Struct, frozen=True):
    server: str
    roots: tuple[str, ...]


class _Orders(msgspec.Struct, frozen=True):
    orders: dict[str, dict[str, str]]


class _Results(msgspec.Struct, frozen=True):
    results: tuple[str, ...]


class _Data(msgspec.Struct, frozen=True):
    data: bytes


class RunClient(ZMQExecutionClient):
    """Submits runs to a `RunServer`, and learns what becomes of them.

    Parameters
    ----------
    endpoint
        Where the server is.
    keys
        Folder of keys; that of this user by default. It is used where it knows the server.
    patience
        Seconds for which the server may be away before whoever waits is told that it is lost. Its
        runs are not: they go on when it is back.

    Raises
    ------
    zmqruntime.KeyFileError
        If the keys cannot be read.

    Examples
    --------
    >>> from zmqruntime import Endpoint
    >>> RunClient(Endpoint("localhost", 7777)).is_connected()
    False
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        keys: KeyFolder | Path | None = None,
        patience: float = 600.0,
    ) -> None:
        folder = KeyFolder.default() if keys is None else keys
        super().__init__(
            endpoint,
            app=APP,
            client_app="openhcs",
            keys=known_keys(folder, endpoint.host, endpoint.port),
            patience=patience,
        )

    def roots(self) -> tuple[str, ...]:
        """Name the roots of the server that this client may read plates from.

        Raises
        ------
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        return self._understood(self._ask("about", {}, timeout=_ASK_S), _About).roots

    def server_id(self) -> str:
        """Ask which server this is; it stays the same when the server is restarted.

        Raises
        ------
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        return self._understood(self._ask("about", {}, timeout=_ASK_S), _About).server

    def submit_run(self, submission: Submission) -> Submitted:
        """Submit a run; when this returns, it is on the server's disk.

        A submission that is equal to one whose run is under way gets that run: who was cut off
        submits again.

        Parameters
        ----------
        submission
            What is to be run.

        Raises
        ------
        zmqruntime.InvalidRequestError
            If the server cannot read the pipeline, or a file lies outside of its roots.
        zmqruntime.ForbiddenError
            If it does not let this client read the root, or does not know the viewer.
        zmqruntime.NotFoundError
            If there is no such plate or file.
        zmqruntime.ControlTimeout
            If it was not accepted in time; submit it again.
        """
        payload = msgspec.to_builtins(submission, builtin_types=(bytes,))
        mark = hashlib.sha256(msgspec.msgpack.encode(payload)).hexdigest()[:32]
        for record in self._under_way():
            if (record.key or "").startswith(mark):
                return Submitted(job=record.id, followed=True)
        key = f"{mark}{secrets.token_hex(8)}"
        job = self.submit(JOB, payload, key=key, retryable=True, timeout=_ASK_S)
        return Submitted(job=job, followed=False)

    def plan_run(
        self, submission: Submission, *, width: int = 80, as_json: bool = False
    ) -> PlanAnswer:
        """Ask what a run would do and need there, without submitting it.

        Parameters
        ----------
        submission
            What would be run.
        width
            Columns of the terminal on which it is shown, 20 to 1000.
        as_json
            Whether it is said in JSON.

        Returns
        -------
        PlanAnswer
            What ``openhcs plan`` says on the server.

        Raises
        ------
        zmqruntime.RequestError
            As for `submit_run`; a `DeadlineError` if it takes more than five minutes.
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        body = {
            "submission": msgspec.to_builtins(submission, builtin_types=(bytes,)),
            "width": width,
            "as_json": as_json,
        }
        answer = self._ask("run.plan", body, timeout=_PLANS * PLAN_S + _ASK_S)
        return self._understood(answer, PlanAnswer)

    def follow(self, job: str, on_event: Callable[[Event], object]) -> JobRecord:
        """Tell what happens in a run, from its beginning, until it is over.

        Parameters
        ----------
        job
            Its name.
        on_event
            Told everything that happens, from the calling thread and in order. Where the server
            was restarted meanwhile, a run begins again with `RunStarted`.

        Returns
        -------
        JobRecord
            How the job ended.

        Raises
        ------
        zmqruntime.execution.ServerLost
            If the server vanished and did not come back in time; the run is followed again by its
            name.
        zmqruntime.NotFoundError
            If the server does not know the job.
        """
        start = known = 0
        for event in self.events(job):
            if event.seq > known:
                start, known = self._tell_from(job, start, on_event)
        record = self.wait(job)
        self._tell_from(job, start, on_event)
        return record

    def orders(self, jobs: Sequence[str]) -> dict[str, dict[str, str]]:
        """Ask what runs are about.

        Parameters
        ----------
        jobs
            Their names, at most 500.

        Returns
        -------
        dict
            By name, ``plate`` and ``results``; runs that the server has forgotten are left out.

        Raises
        ------
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        answer = self._ask("run.orders", {"ids": list(jobs)}, timeout=_ASK_S)
        return self._understood(answer, _Orders).orders

    def results(self) -> tuple[str, ...]:
        """Name the results that lie on the server for this client.

        Raises
        ------
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        return self._understood(self._ask("results.list", {}, timeout=_ASK_S), _Results).results

    def result_files(self, results: str) -> list[FileEntry]:
        """List the files of results.

        Parameters
        ----------
        results
            Their name.

        Raises
        ------
        zmqruntime.NotFoundError
            If there are none of that name.
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        found: list[FileEntry] = []
        after: str | None = ""
        while after is not None:
            body = {"results": results, "after": after}
            page = self._understood(self._ask_patiently("results.files", body), FilePage)
            found += page.files
            if page.next is not None and (page.next <= after or len(found) > _MOST_FILES):
                message = f"the list of files of {results!r} has no end"
                raise PeerError(message)
            after = page.next
        return found

    def read_piece(self, results: str, entry: FileEntry, start: int) -> bytes:
        """Read a piece of a file of results.

        Parameters
        ----------
        results
            Their name.
        entry
            The file, as it was listed.
        start
            First byte that is wanted.

        Raises
        ------
        zmqruntime.ConflictError
            If the file was changed after it was listed.
        zmqruntime.NotFoundError
            If it is gone.
        zmqruntime.ControlTimeout
            If no answer came in time.
        """
        body = {
            "results": results,
            "path": entry.path,
            "size": entry.size,
            "modified": entry.modified,
            "start": start,
        }
        return self._understood(self._ask_patiently("results.read", body), _Data).data

    def _understood(self, answer: dict[str, Any], shape: type[_T]) -> _T:
        """Take an answer for nothing but what it has to be."""
        try:
            return from_plain(answer, shape)
        except msgspec.ValidationError as error:
            raise _not_understood(self.endpoint, error) from error

    def _ask_patiently(self, type_: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask what changes nothing, and wait for a server that is away as long as for a run."""
        deadline = Deadline(max(self.patience, _ASK_S))
        answer = self._ask_for_long(
            type_, body, "its runs", deadline=deadline, patience=self.patience
        )
        if answer is None:
            raise ControlTimeout(f"{self.app} at {self.endpoint} did not answer {type_!r}")
        return answer

    def _under_way(self) -> list[JobRecord]:
        return [record for state in _LIVE for record in self.jobs(state=state, mine=True)]

    def _tell_from(
        self, job: str, start: int, on_event: Callable[[Event], object]
    ) -> tuple[int, int]:
        """Tell all that has happened since; give where to go on, and which event that covers."""
        while True:
            body = {"id": job, "after": start}
            page = self._understood(self._ask_patiently("run.events", body), EventPage)
            for plain in page.events:
                try:
                    event = typed_event(plain)
                except msgspec.ValidationError as error:
                    raise _not_understood(self.endpoint, error) from error
                if event is not None:
                    on_event(event)
            start = page.next
            if not page.more:
                return start, page.known


def _not_understood(endpoint: Endpoint, error: msgspec.ValidationError) -> PeerError:
    return PeerError(f"the server at {endpoint} gave an answer that is not understood: {error}")
