"""ExecutionServer: a service that takes jobs, and forgets none that it has taken."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import (
    ForbiddenError,
    InvalidRequestError,
    LoopStoppedError,
    NotFoundError,
    UnavailableError,
)
from zmqruntime._typed import from_plain
from zmqruntime.control._messages import Reply
from zmqruntime.execution._broadcast import JobBroadcast
from zmqruntime.execution._ends import end_reply
from zmqruntime.execution._journal import Journal
from zmqruntime.execution._journal_reader import JournalReader
from zmqruntime.execution._messages import About, Acknowledged, ListJobs, Piece
from zmqruntime.execution._queue import ExecutionQueue
from zmqruntime.execution._record import NewJob
from zmqruntime.execution._settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

    from zmqruntime._server import ZMQServer
    from zmqruntime.control._handshake import Work
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.execution._journal import History
    from zmqruntime.execution._live import LiveJob
    from zmqruntime.execution._record import JobRecord

    Prepare = Callable[[str, Any, Peer], Any]

__all__ = ["ExecutionServer"]

logger = logging.getLogger(__name__)

_FUNCTION = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NEEDED = "pipeline:submit"
_SEE_ALL = "jobs:see"
_CANCEL_ALL = "jobs:cancel"
_PUSHED = "execution"


class ExecutionServer:
    """Takes jobs over the control channel, runs them in processes, keeps them in a journal.

    Parameters
    ----------
    server
        Whose channels are used; it is started and stopped with this object.
    journal
        File of jobs, on a disk of this computer. The same file, given to the next start of the
        server, is what makes it remember.
    functions
        What may be run: ``module:function`` of installed code, per kind of job. A function is
        called with a `JobContext` and the payload, and returns a plain value.
    settings
        How jobs are run.
    history
        How much of what is over is kept.
    broadcast
        Tell records and progress of all jobs, in JSON, to whoever listens to the topic
        ``execution`` of the data channel. Plain SUB sockets need show nothing for that, so it is
        for servers whose jobs are no secret to those who reach the port.
    stop_grace
        Seconds that jobs have to stop when the server is stopped.
    prepare
        Called with kind, payload and peer of each submission before it is accepted, on a thread
        of its own; returns the payload that is kept, or raises a `RequestError` to refuse it.
        The same submission must give the same payload, for its idempotency key stands for that.

    Raises
    ------
    ValueError
        If there is no function, or a name is not ``module:function``.

    Notes
    -----
    A peer needs the capability ``pipeline:submit``; it sees and cancels its own jobs, and those
    of others with ``jobs:see`` and ``jobs:cancel``.

    A job is on the disk before it is accepted, and its end before anybody hears of it. When the
    server is killed, its workers end with it; at the next start, jobs that wait still wait, in
    their order, and one that was running is `lost`, or waits again if it was submitted
    as retryable.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from zmqruntime import ZMQServer
    >>> from zmqruntime.testing import free_endpoint
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     server = ExecutionServer(
    ...         ZMQServer("jobs", free_endpoint()),
    ...         journal=Path(folder) / "jobs.db",
    ...         functions={"count": "mylab.counting:count_cells"},
    ...     )
    """

    def __init__(
        self,
        server: ZMQServer,
        *,
        journal: Path,
        functions: Mapping[str, str],
        settings: Settings | None = None,
        history: History | None = None,
        broadcast: bool = False,
        stop_grace: float = 3.0,
        prepare: Prepare | None = None,
    ) -> None:
        if not functions:
            raise ValueError("an execution server needs at least one function to run")
        for kind, name in functions.items():
            if not _FUNCTION.fullmatch(name):
                raise ValueError(f"{kind!r} is to run {name!r}: expected 'module:function'")
        self.server = server
        self.path = journal
        self.functions = dict(functions)
        self._settings = settings or Settings()
        self._history = history
        self._stop_grace = stop_grace
        self._prepare = prepare
        self._broadcasts = broadcast
        self._broadcast: JobBroadcast | None = None
        self._journal: Journal | None = None
        self._reader: JournalReader | None = None
        self._queue: ExecutionQueue | None = None
        control = server.control
        control.handle("submit", self._on_submit, on_loop=prepare is None, capability=_NEEDED)
        control.handle("cancel", self._on_cancel, on_loop=True, capability=_NEEDED)
        control.handle("wait", self._on_wait, on_loop=True, capability=_NEEDED)
        control.handle("status", self._on_status, on_loop=True, capability=_NEEDED)
        control.handle("list", self._on_list, capability=_NEEDED)
        control.handle("result", self._on_result, capability=_NEEDED)
        control.handle("events", self._on_events, capability=_NEEDED)
        control.handle("logs", self._on_logs, capability=_NEEDED)
        control.handle("follow", self._on_follow, on_loop=True, capability=_NEEDED)
        control.handle("unfollow", self._on_unfollow, on_loop=True, capability=_NEEDED)
        control.handle("follow_ack", self._on_follow_ack, on_loop=True, capability=_NEEDED)
        control.on_peer_lost(self._on_peer_lost)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self, *, ready: bool = True) -> None:
        """Take the address, take up what the journal holds, and begin to accept jobs.

        Parameters
        ----------
        ready
            As for `ZMQServer.start`.

        Raises
        ------
        EndpointInUse
            If another process serves here.
        JournalError
            One of its leaves, if the journal cannot be used; it was left as it is.
        """
        if self._queue is not None:
            return
        self.server.start(ready=False)  # who holds the address may touch the journal
        try:
            self._open()
        except BaseException:
            self.stop()
            raise
        if ready:
            self.server.report_ready()

    def stop(self) -> None:
        """Let jobs stop, write down what became of them, and give everything up.

        Jobs that wait go on waiting, for the next start. Twice is harmless.
        """
        queue, self._queue = self._queue, None
        try:
            if queue is not None:
                queue.stop(self._stop_grace)
        finally:
            if self._broadcast is not None:
                self._broadcast.close()
                self._broadcast = None
            if self._reader is not None:
                self._reader.close()
                self._reader = None
            if self._journal is not None:
                self._journal.close()
                self._journal = None
            self.server.stop()

    def serve_until_signal(self) -> None:
        """Serve until a signal, the owner or a shutdown request ends it; main thread only.

        Raises
        ------
        EndpointInUse, JournalError
            As `start`.
        ValueError
            If called outside the main thread.
        """
        self.start(ready=False)
        try:
            self.server.install_signal_handlers()
            self.server.report_ready()
            self.server.wait_for_stop_request()
        finally:
            self.stop()

    @property
    def epoch(self) -> int:
        """How often the journal has been opened by a server, this time included."""
        return self._opened_journal().epoch

    def status(self) -> dict[str, Any]:
        """Say how the server is; what a ``status`` request without an id is told.

        Returns
        -------
        dict
            Number of jobs per state, what it does, how many workers and how many jobs wait, and
            what is wrong, if anything is. It takes the same time however many jobs there are.
        """
        queue = self._running()
        return {
            "counts": queue.counts,
            "work": msgspec.to_builtins(queue.work),
            "workers": self._settings.workers,
            "epoch": self.epoch,
            "trouble": queue.trouble,
        }

    def record(self, id_: str, peer: Peer) -> JobRecord:
        """Find a job for a peer that asks about it; for handlers of further requests.

        Parameters
        ----------
        id_
            Name of the job.
        peer
            Who asks.

        Returns
        -------
        JobRecord
            The job as it is now.

        Raises
        ------
        NotFoundError
            If there is none, or the peer may not see it.
        """
        return self._visible(id_, peer)

    def payload(self, id_: str, peer: Peer) -> Any:
        """Read what a job is to do, as it was submitted or prepared, for a peer that asks.

        Parameters
        ----------
        id_, peer
            As for `record`.

        Returns
        -------
        object
            Plain value.

        Raises
        ------
        NotFoundError
            As `record`.
        """
        record = self._visible(id_, peer)
        return msgspec.msgpack.decode(self._opened_reader().payload(record.seq))

    def _open(self) -> None:
        self._journal = Journal(self.path, history=self._history)
        self._reader = JournalReader(self.path)
        if self._broadcasts:
            self._broadcast = JobBroadcast(self.server)
        self.server.server_id = self._journal.server_id  # clients that resume know it by that
        queue = ExecutionQueue(
            self._journal,
            self._reader,
            self.functions,
            settings=self._settings,
            push=self._push,
            on_work=self._on_work,
            on_news=self._on_news,
        )
        try:
            queue.start()
        except BaseException:
            queue.loop.stop()
            raise
        self._queue = queue

    def _push(self, peer: bytes, body: dict[str, Any]) -> None:
        with suppress(LoopStoppedError):
            self.server.control.push(peer, _PUSHED, body)

    def _on_work(self, work: Work) -> None:
        self.server.work = work

    def _on_news(self, job: LiveJob) -> None:
        if self._broadcast is not None:
            self._broadcast.tell(job)

    # -- requests -----------------------------------------------------------------------------

    def _on_submit(self, request: Request, peer: Peer) -> Future[Reply]:
        body = request.body
        if request.key is not None and "key" not in body:
            body = {**body, "key": request.key}
        try:
            new = from_plain(body, NewJob)
        except msgspec.ValidationError as error:
            raise InvalidRequestError(f"this is no job: {error}") from error
        if new.units is not None and len(set(new.units)) != len(new.units):
            raise InvalidRequestError("a unit is named twice")
        if self._prepare is not None and new.kind in self.functions:
            new = msgspec.structs.replace(new, payload=self._prepare(new.kind, new.payload, peer))
        return self._running().submit(new, client=_client_of(peer))

    def _on_cancel(self, request: Request, peer: Peer) -> Future[Reply]:
        record = self._visible(request.parse(About).id, peer)
        if record.client != _client_of(peer) and not peer.may(_CANCEL_ALL):
            raise ForbiddenError(
                f"job {record.id} was submitted by somebody else; cancelling it needs the "
                f"capability {_CANCEL_ALL!r}",
                details={"capability": _CANCEL_ALL},
            )
        return self._running().cancel(record.id, by=peer.name or _client_of(peer) or str(peer))

    def _on_wait(self, request: Request, peer: Peer) -> Reply | Future[Reply]:
        record = self._visible(request.parse(About).id, peer)
        if record.state.terminal:
            return end_reply(record)
        return self._running().end_of(record.id)

    def _on_status(self, request: Request, peer: Peer) -> dict[str, Any]:
        about = request.parse(About)
        if not about.id:
            return self.status()
        return self._running().described(self._visible(about.id, peer))

    def _on_list(self, request: Request, peer: Peer) -> dict[str, Any]:
        wanted = request.parse(ListJobs)
        everything = peer.holds(_SEE_ALL) and not wanted.mine
        records = self._opened_reader().page(
            before=wanted.before,
            limit=wanted.limit,
            state=wanted.state,
            client=None if everything else _client_of(peer),
        )
        return {
            "jobs": [msgspec.to_builtins(record) for record in records],
            "next": records[-1].seq if len(records) == wanted.limit else None,
        }

    def _on_result(self, request: Request, peer: Peer) -> Reply:
        piece = request.parse(Piece)
        record = self._visible(piece.id, peer)
        reader = self._opened_reader()
        units, following = reader.units(record.seq, after=piece.after, limit=piece.limit)
        body = {
            "record": msgspec.to_builtins(record),
            "units": [msgspec.to_builtins(unit) for unit in units],
            "next": following,
        }
        packed = None if piece.after else reader.result(record.seq)
        if packed is not None:
            body["value"] = msgspec.msgpack.decode(packed)
        return Reply(body)

    def _on_events(self, request: Request, peer: Peer) -> dict[str, Any]:
        piece = request.parse(Piece)
        record = self._visible(piece.id, peer)
        events = self._opened_reader().events(record.seq, after=piece.after, limit=piece.limit)
        return {
            "events": [msgspec.to_builtins(event) for event in events],
            "next": events[-1].seq if len(events) == piece.limit else None,
        }

    def _on_logs(self, request: Request, peer: Peer) -> dict[str, Any]:
        piece = request.parse(Piece)
        record = self._visible(piece.id, peer)
        found = self._opened_reader().log(record.seq, start=piece.after)
        text = found.text
        if found.start + len(text) < found.size:
            text = _whole_characters(text)
        return {
            "start": found.start,
            "text": text.decode("utf-8", "replace"),
            "next": found.start + len(text),
            "size": found.size,
        }

    def _on_follow(self, request: Request, peer: Peer) -> dict[str, Any]:
        about = request.parse(About)
        if peer.hello is None:
            raise InvalidRequestError("say hello first: who has not cannot be told anything")
        if not about.id:
            mine, everything = _client_of(peer), peer.holds(_SEE_ALL)
            self._running().follow_all(peer.id, lambda client: everything or client == mine)
            return self.status()
        record = self._visible(about.id, peer)
        self._running().follow(peer.id, about.id, after=about.after)
        return self._running().described(record)

    def _on_unfollow(self, request: Request, peer: Peer) -> None:
        self._running().unfollow(peer.id, request.parse(About).id or None)

    def _on_follow_ack(self, request: Request, peer: Peer) -> None:
        self._running().acknowledged(peer.id, request.parse(Acknowledged).n)

    def _on_peer_lost(self, peer: Peer) -> None:
        if self._queue is not None:
            self._queue.unfollow(peer.id)

    # -- what they share ------------------------------------------------------------------------

    def _running(self) -> ExecutionQueue:
        if self._queue is None:
            raise UnavailableError(
                f"{self.server.app} is being started or stopped: ask again soon", retryable=True
            )
        return self._queue

    def _opened_reader(self) -> JournalReader:
        self._running()
        assert self._reader is not None
        return self._reader

    def _opened_journal(self) -> Journal:
        self._running()
        assert self._journal is not None
        return self._journal

    def _visible(self, id_: str, peer: Peer) -> JobRecord:
        record = self._running().live(id_) or self._opened_reader().record(id_)
        if record is None or not (record.client == _client_of(peer) or peer.holds(_SEE_ALL)):
            raise NotFoundError(
                f"there is no job {id_!r} here: it was never accepted, is not yours, or was "
                "over so long ago that it was forgotten"
            )
        return record


def _client_of(peer: Peer) -> str:
    """Say who a peer is, as the socket knows it.

    All who show the owner token are one; others are the key that they have proved to own. Without
    keys, all others are one too.
    """
    return "owner" if peer.owner else peer.source.key


def _whole_characters(text: bytes) -> bytes:
    """Cut a character off that has its end in the next piece."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character
            length = 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
            return text[:-back] if length > back else text
    return text
