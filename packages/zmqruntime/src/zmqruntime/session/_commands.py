"""Command: a call that is answered once, by its id; deadline, cancel, idempotency key."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from zmqruntime._errors import ForbiddenError, InvalidRequestError, LoopStoppedError
from zmqruntime.session._envelopes import check_fits, check_plain
from zmqruntime.session._errors import CommandError
from zmqruntime.session._journal import ANSWERS_KEPT_S, Stored

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.loop._loop import IOThread
    from zmqruntime.loop._timers import TimerHandle
    from zmqruntime.loop._workers import WorkerPool
    from zmqruntime.session._application import Grant
    from zmqruntime.session._journal import Journal

    Handler = Callable[["Command"], Any]
    Responder = Callable[["Outcome"], object]

__all__ = ["Command", "CommandTable", "Outcome"]

logger = logging.getLogger(__name__)

_REMEMBERED = 1024
_MOST_WAITING = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command: a result, or an error."""

    result: Any = None
    error: CommandError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A call, as its handler sees it.

    Attributes
    ----------
    name
        Which command.
    args, kwargs
        Arguments; protocol 1 has named ones only.
    session_id
        Session that called.
    principal
        Who that is, as far as the server has proof.
    origin
        Where in the client's program it came from, as the client says.
    cancelled
        Set when the caller no longer waits; a handler that takes long looks at it.
    due
        Monotonic second at which the caller stops waiting.
    """

    name: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    session_id: str = ""
    principal: str = ""
    origin: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    due: float = float("inf")
    report: Callable[[float | None, str | None], object] = lambda _fraction, _message: None

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Tell the caller how far it is; any thread. Clients of protocol 1 are not told.

        Parameters
        ----------
        fraction
            0 to 1, or None when unknown.
        message
            For people.
        """
        self.report(fraction, message)

    def raise_if_cancelled(self) -> None:
        """Leave the handler if the caller no longer waits.

        Raises
        ------
        CommandError
            With the code ``command.cancelled``.
        """
        if self.cancelled.is_set():
            raise CommandError("command.cancelled", f"{self.name} was cancelled")


@dataclass(frozen=True, slots=True)
class _Registered:
    handler: Handler
    on_loop: bool
    capability: str


@dataclass(slots=True, eq=False)
class _Running:
    command: Command
    repeat: tuple[str, ...]  # session and id; or principal, command and idempotency key
    waiting: list[Responder]
    begun: bool = False
    answered: bool = False
    timer: TimerHandle | None = None

    @property
    def keyed(self) -> bool:
        """Whether it has an idempotency key."""
        return len(self.repeat) > 2


class CommandTable:
    """The commands of a server, and those that run; used on the loop.

    Parameters
    ----------
    loop
        Where answers are given.
    pool
        Threads for handlers.
    journal
        Where results are kept by idempotency key, 10 minutes.
    wall
        Seconds since the epoch.

    Notes
    -----
    A call is carried out once: a repeat of its id in its session, or of the same command with its
    idempotency key by the same principal, gets the same answer, also from a later start of the
    server. A call that failed may be tried again with the same key. The control channel does
    the same with `control._repeats`; here results outlive the server, whoever waits may give
    up, and the key is the principal's.
    """

    def __init__(
        self,
        loop: IOThread,
        pool: WorkerPool,
        journal: Journal,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._journal = journal
        self._wall = wall
        self._table: dict[str, _Registered] = {}
        self._running: dict[tuple[str, ...], _Running] = {}
        self._calls: dict[tuple[str, str], _Running] = {}
        self._recent: OrderedDict[tuple[str, ...], Outcome] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the commands, sorted."""
        return tuple(sorted(self._table))

    def add(
        self, name: str, handler: Handler, *, on_loop: bool = False, capability: str | None = None
    ) -> None:
        """Answer a command; adding it again replaces the handler.

        Parameters
        ----------
        name
            For example ``layer.create``.
        handler
            Called with a `Command`; returns plain values, or raises `CommandError`.
        on_loop
            Run on the I/O thread. Only for handlers that take less than 5 ms.
        capability
            What the client needs, ``command:{name}`` when None.
        """
        self._table[name] = _Registered(handler, on_loop, capability or f"command:{name}")

    def authorise(self, name: str, grant: Grant | None) -> None:
        """Say whether a client may call a command.

        Parameters
        ----------
        name
            Which command.
        grant
            What the client may do.

        Raises
        ------
        CommandError
            With the code ``command.not_found`` or ``command.forbidden``.
        """
        registered = self._table.get(name)
        if registered is None:
            raise CommandError(
                "command.not_found",
                f"no command {name[:80]!r} here",
                {"commands": list(self.names)[:256]},
            )
        if grant is None or not grant.may(registered.capability):
            raise CommandError(
                "command.forbidden",
                f"{name} needs the capability {registered.capability!r}, which this client was "
                "not given",
                {"capability": registered.capability},
            )

    def begin(
        self,
        command: Command,
        call_id: str,
        respond: Responder,
        *,
        key: str | None,
    ) -> None:
        """Carry a call out, or answer a repeat.

        Parameters
        ----------
        command
            What to do; one that was authorised.
        call_id
            Name of the call in its session.
        respond
            Called once, on the loop.
        key
            Idempotency key, or None.
        """
        call = (command.session_id, call_id)
        repeat = call if key is None else (command.principal, command.name, key)
        known = self._stored(*repeat) if len(repeat) == 3 else self._recent.get(repeat)
        if known is not None:
            respond(known)
            return
        running = self._running.get(repeat)
        if running is not None:
            if len(running.waiting) >= _MOST_WAITING:
                text = f"{_MOST_WAITING} repeats wait for this call of {command.name} already"
                respond(Outcome(error=CommandError("command.busy", f"{text}: wait for theirs")))
                return
            running.waiting.append(respond)
            self._calls[call] = running
            return
        running = _Running(command, repeat, [respond])
        self._running[repeat] = self._calls[call] = running
        if command.due != float("inf"):
            wait = command.due - time.monotonic()
            running.timer = self._loop.call_later(wait, lambda: self._expire(running))
        registered = self._table[command.name]
        if registered.on_loop:
            self._finish(running, self._call(registered.handler, command))
            return

        def job() -> None:
            outcome = Outcome(error=CommandError("command.cancelled", "cancelled before it began"))
            if not command.cancelled.is_set():
                running.begun = True
                outcome = self._call(registered.handler, command)
            try:
                self._loop.call_soon(self._finish, running, outcome)
            except LoopStoppedError:
                logger.info("%s ended after its server", command.name)

        if not self._pool.offer(job):
            busy = CommandError("command.busy", "too many commands wait: try again later")
            self._finish(running, Outcome(error=busy))

    def cancel(self, session_id: str, call_id: str) -> bool:
        """Tell a call that nobody waits for it any more.

        Returns
        -------
        bool
            False when it is not running.
        """
        running = self._calls.get((session_id, call_id))
        if running is None or running.answered:
            return False
        running.command.cancelled.set()
        if not running.begun and not self._table[running.command.name].on_loop:
            error = CommandError("command.cancelled", "cancelled before it began")
            self._respond(running, Outcome(error=error))
        return True

    def forget(self, session_id: str) -> None:
        """Let go of what is remembered of a session that has ended; its calls go on."""
        for call in [call for call in self._calls if call[0] == session_id]:
            del self._calls[call]
        for repeat in [each for each in self._recent if each[0] == session_id]:
            del self._recent[repeat]

    def _stored(self, principal: str, name: str, key: str) -> Outcome | None:
        text = self._journal.answer(f"command {name}", principal, key)
        return None if text is None else Outcome(msgspec.json.decode(text))

    def _call(self, handler: Handler, command: Command) -> Outcome:
        try:
            result = handler(command)
            check_plain(result)
        except CommandError as error:
            return Outcome(error=error)
        except ForbiddenError as error:
            return Outcome(error=CommandError("command.forbidden", str(error)))
        except InvalidRequestError as error:
            return Outcome(error=CommandError("command.invalid", str(error)))
        except Exception as error:
            logger.exception("command %s failed", command.name)
            text = f"{type(error).__name__}: {error}"
            return Outcome(error=CommandError("command.error", text))
        try:
            check_fits(result, f"the result of {command.name}")
        except ValueError as error:
            return Outcome(error=CommandError("command.too_large", str(error)))
        return Outcome(result)

    def _expire(self, running: _Running) -> None:
        running.command.cancelled.set()
        text = f"{running.command.name} was not done in time"
        self._respond(running, Outcome(error=CommandError("command.deadline", text)))

    def _respond(self, running: _Running, outcome: Outcome) -> None:
        running.answered = True
        waiting, running.waiting = running.waiting, []
        for respond in waiting:
            respond(outcome)

    def _finish(self, running: _Running, outcome: Outcome) -> None:
        if running.timer is not None:
            running.timer.cancel()
        self._running.pop(running.repeat, None)
        for call in [call for call, each in self._calls.items() if each is running]:
            del self._calls[call]
        if not running.keyed:
            self._recent[running.repeat] = outcome
            if len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)
        elif outcome.error is None:
            principal, name, key = running.repeat
            stored = Stored(
                kind=f"command {name}",
                client=principal,
                key=key,
                answer=msgspec.json.encode(outcome.result),
                expires=self._wall() + ANSWERS_KEPT_S,
            )
            with self._journal.writing():
                self._journal.write_answer(stored)
        self._respond(running, outcome)
