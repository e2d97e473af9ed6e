"""RunServer: does runs for others, next to the data, and forgets none that it has accepted."""

from __future__ import annotations

import difflib
import re
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from openhcs._typed import from_plain
from openhcs.server._events import read_events
from openhcs.server._messages import EventPage, Order
from openhcs.server._orders import OrderDesk, owner_of, plate_of
from openhcs.server._plans import Plans, plan_command
from openhcs.server._result_files import list_files, read_piece, result_names
from zmqruntime import InvalidRequestError, NotFoundError, ZMQServer
from zmqruntime.execution import ExecutionServer, History, Settings

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from openhcs.server._settings import ServerSettings
    from zmqruntime import Endpoint, Peer, Request

__all__ = ["APP", "JOB", "RunServer"]

APP: Final = "openhcs-runs"
JOB: Final = "run"
_NEEDED: Final = "pipeline:submit"
_GRACE_S: Final = 15.0
"""Seconds that a run has to stop by itself; it takes 10 s at most."""
_DAYS: Final = 90.0
"""For how long runs that are over are remembered."""
_ATTEMPTS: Final = 20
"""A run goes on where it was, so a server may be restarted often while it lasts."""
_SHOWN: Final = 10
"""How many results are named to whoever asks for those that are not there."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

_Place = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]


class _AboutEvents(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    after: _Place = 0


class _AboutOrders(msgspec.Struct, frozen=True, kw_only=True):
    ids: Annotated[list[str], msgspec.Meta(max_length=500)]


class _AboutPlan(msgspec.Struct, frozen=True, kw_only=True):
    submission: Any
    width: Annotated[int, msgspec.Meta(ge=20, le=1000)] = 80
    as_json: bool = False


class _AboutFiles(msgspec.Struct, frozen=True, kw_only=True):
    results: str
    after: str = ""


class _AboutPiece(msgspec.Struct, frozen=True, kw_only=True):
    results: str
    path: str
    size: _Place
    modified: int
    start: _Place = 0


class RunServer:
    """Does the runs that others submit, one after the other or some at once.

    Parameters
    ----------
    endpoint
        Ports to serve on.
    settings
        What is allowed, and where things are kept.
    bind_address
        As for `zmqruntime.ZMQServer`: without keys, this computer alone is served.

    Raises
    ------
    zmqruntime.InsecureBindError
        If other computers could reach the address, and there are no keys.
    zmqruntime.KeyFileError
        If the keys cannot be used.
    ValueError
        If a root cannot be used.
    OSError
        If the folders for results and jobs cannot be made.

    Notes
    -----
    Whoever submits needs the capability ``pipeline:submit``, and ``fs:NAME:read`` for each root
    that a plate or a file is read from. Results lie in a folder of each key's own.
    """

    def __init__(
        self, endpoint: Endpoint, settings: ServerSettings, *, bind_address: str = "127.0.0.1"
    ) -> None:
        self._settings = settings
        # without parents: the folder of a disk that is not mounted is not made in its place
        settings.results.mkdir(exist_ok=True)
        for folder in (settings.events, settings.tables):
            folder.mkdir(parents=True, exist_ok=True)
        self._desk = OrderDesk(settings)
        server = ZMQServer(APP, endpoint, bind_address=bind_address, keys=settings.keys)
        self._jobs = ExecutionServer(
            server,
            journal=settings.journal,
            functions={JOB: "openhcs.server._job:run_order"},
            settings=Settings(
                workers=settings.runs,
                grace=_GRACE_S,
                attempts=_ATTEMPTS,
                waiting_each=settings.waiting,
                env=settings.to_environment(),
            ),
            stop_grace=_GRACE_S,
            history=History(days=_DAYS),
            prepare=self._desk.prepare,
        )
        self._plans = Plans(settings, plan_command())
        control = server.control
        limits = control.limits
        control.limits = replace(limits, large_types=limits.large_types | {"run.plan"})
        control.on_peer_lost(self._plans.forget)
        control.handle("run.plan", self._on_plan, capability=_NEEDED)
        control.handle("about", self._on_about, capability=_NEEDED)
        control.handle("run.events", self._on_events, capability=_NEEDED)
        control.handle("run.orders", self._on_orders, capability=_NEEDED)
        control.handle("results.list", self._on_results, capability=_NEEDED)
        control.handle("results.files", self._on_files, capability=_NEEDED)
        control.handle("results.read", self._on_read, capability=_NEEDED)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def start(self) -> None:
        """Serve, and take up the runs that a former server has left.

        Raises
        ------
        zmqruntime.EndpointInUse
            If another process serves here.
        zmqruntime.execution.JournalError
            If the file of jobs cannot be used; it was left as it is.
        """
        self._forget_old()
        self._jobs.start()

    def stop(self) -> None:
        """Let runs stop, and end; they go on when the server is started again."""
        self._plans.close()
        self._jobs.stop()

    def serve_until_signal(self) -> None:
        """Serve until a signal or a request to stop; main thread only.

        Raises
        ------
        zmqruntime.EndpointInUse, zmqruntime.execution.JournalError
            As `start`.
        """
        self._forget_old()
        try:
            self._jobs.serve_until_signal()
        finally:
            self._plans.close()

    def _forget_old(self) -> None:
        """Remove what is kept of runs that the file of jobs has forgotten, and of plans."""
        self._plans.clear()
        tables = self._settings.tables.glob("*/*")
        for path in (*self._settings.events.glob("*.jsonl"), *tables):
            if time.time() - path.stat().st_mtime > (_DAYS + 1) * 86_400:
                path.unlink(missing_ok=True)

    def _on_about(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002  # a handler's
        return {"server": self._jobs.server.server_id, "roots": list(self._desk.roots(peer))}

    def _on_events(self, request: Request, peer: Peer) -> dict[str, Any]:
        about = request.parse(_AboutEvents)
        known = self._jobs.record(about.id, peer).events
        events, following, more = read_events(self._settings.events_of(about.id), about.after)
        page = EventPage(events=events, next=following, more=more, known=known)
        answer: dict[str, Any] = msgspec.to_builtins(page)
        return answer

    def _on_plan(self, request: Request, peer: Peer) -> Any:
        """Have a plan made of what may be submitted, which submits nothing."""
        about = request.parse(_AboutPlan)
        order = self._desk.prepare(JOB, about.submission, peer)
        return self._plans.ask(order, width=about.width, as_json=about.as_json, peer=peer)

    def _on_orders(self, request: Request, peer: Peer) -> dict[str, Any]:
        """Say what runs are about; those that are not the peer's are left out."""
        found: dict[str, Any] = {}
        for job in request.parse(_AboutOrders).ids:
            with suppress(NotFoundError):
                order = from_plain(self._jobs.payload(job, peer), Order)
                found[job] = {"plate": plate_of(order), "results": order.submission.results}
        return {"orders": found}

    def _on_results(self, request: Request, peer: Peer) -> dict[str, Any]:  # noqa: ARG002  # a handler's
        return {"results": result_names(self._settings.results / owner_of(peer))}

    def _on_files(self, request: Request, peer: Peer) -> dict[str, Any]:
        about = request.parse(_AboutFiles)
        page = list_files(self._folder(about.results, peer), about.after)
        answer: dict[str, Any] = msgspec.to_builtins(page)
        return answer

    def _on_read(self, request: Request, peer: Peer) -> dict[str, Any]:
        about = request.parse(_AboutPiece)
        folder = self._folder(about.results, peer)
        return {
            "data": read_piece(
                folder, about.path, about.start, size=about.size, modified=about.modified
            )
        }

    def _folder(self, name: str, peer: Peer) -> Path:
        if not _NAME.fullmatch(name):
            raise InvalidRequestError(f"{name!r} is no name of results")
        folder = self._settings.results / owner_of(peer) / name
        if not folder.is_dir():
            known = result_names(folder.parent)
            meant = difflib.get_close_matches(name, known, _SHOWN)
            shown = list(dict.fromkeys((*meant, *known)))[:_SHOWN]
            more = f", and {len(known) - len(shown)} more" if len(known) > len(shown) else ""
            raise NotFoundError(
                f"there are no results {name!r} of yours here; there are "
                f"{', '.join(shown) or 'none'}{more}"
            )
        return folder
