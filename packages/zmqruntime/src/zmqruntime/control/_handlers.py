"""Handlers: a function per type of request, run where it may wait or where it may not."""

from __future__ import annotations

import logging
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zmqruntime._errors import (
    BusyError,
    DeadlineError,
    InvalidRequestError,
    LoopStoppedError,
    RequestError,
    request_error,
)
from zmqruntime.control._messages import Reply
from zmqruntime.control._repeats import Repeats
from zmqruntime.loop._workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zmqruntime.control._doorkeeper import Doorkeeper
    from zmqruntime.control._messages import Request
    from zmqruntime.control._peer import Peer
    from zmqruntime.loop._loop import IOThread

    Outcome = Reply | RequestError
    Handler = Callable[[Request, Peer], Mapping[str, Any] | Reply | Future[Any] | None]

__all__ = ["Handlers"]

logger = logging.getLogger(__name__)

_LONGEST_S = 86_400.0  # that a promised answer is waited for

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class _Registered:
    handler: Handler
    on_loop: bool
    capability: str | None


class Handlers(Generic[W]):
    """Carries requests out, each once; ``W`` is what names who is to be answered.

    Parameters
    ----------
    loop
        Thread that asks for it, and is told.
    door
        Knows what a peer may do, and writes down what it did.
    answer
        Called on the loop with who is to be answered, and what.
    workers
        Most slow handlers at a time.
    """

    def __init__(
        self,
        loop: IOThread,
        door: Doorkeeper,
        answer: Callable[[W, Outcome], object],
        *,
        workers: int,
    ) -> None:
        self._loop = loop
        self._door = door
        self._answer = answer
        self._registered: dict[str, _Registered] = {}
        self._repeats: Repeats[W] = Repeats()
        self._pool = WorkerPool(f"{loop.name}-worker", threads=workers)

    @property
    def types(self) -> frozenset[str]:
        """The types of request that have a handler."""
        return frozenset(self._registered)

    def add(self, type_: str, handler: Handler, *, on_loop: bool, capability: str | None) -> None:
        """Register a handler, as `ControlServer.handle` says."""
        self._registered[type_] = _Registered(handler, on_loop, capability)

    def close(self) -> None:
        """Begin no more; waits for the handlers that run."""
        self._pool.close()

    def carry_out(self, request: Request, peer: Peer, who: W) -> None:
        """Carry a request out, now or on a worker; on the loop.

        Parameters
        ----------
        request, peer
            What is asked, and by whom.
        who
            Who is to be answered.

        Raises
        ------
        RequestError
            One of its leaves, if it is refused at once; `answer` is not called then.
        """
        registered = self._registered.get(request.type)
        if registered is None:
            raise InvalidRequestError(
                f"no request {request.type!r} here; known are {sorted(self._registered)}",
                code="unknown_type",
            )
        if registered.capability is not None:
            self._door.require_capability(request, peer, registered.capability)
        if request.key is not None:
            known = self._repeats.arrive(request.type, request.key, who, client=peer.client)
            if isinstance(known, Reply):
                self._answer(who, known)
            if known is not True:
                return
        if registered.on_loop:
            self._call(registered, request, peer, partial(self._finish, request, peer, who))
            return

        def tell(outcome: Outcome) -> None:
            with suppress(LoopStoppedError):  # the server stopped meanwhile
                self._loop.call_here(self._finish, request, peer, who, outcome)

        if not self._pool.offer(partial(self._call, registered, request, peer, tell)):
            busy = BusyError("too many requests wait", retryable=True)
            self._finish(request, peer, who, busy)

    def _call(
        self,
        registered: _Registered,
        request: Request,
        peer: Peer,
        tell: Callable[[Outcome], object],
    ) -> None:
        """Run a handler, write down how it went if that takes a capability, and tell."""
        end = tell
        if registered.capability is not None or request.type == "hello":
            began = time.monotonic()

            def end(outcome: Outcome) -> None:
                verdict = "ok" if isinstance(outcome, Reply) else f"failed:{outcome.code}"
                ms = round(1000 * (time.monotonic() - began), 3)
                self._door.note(request, peer, registered.capability or "", verdict, ms=ms)
                tell(outcome)

        if request.expired:
            end(DeadlineError(f"{request.type!r} was not begun before its deadline"))
            return
        self._run(registered.handler, request, peer, end)

    def _run(
        self, handler: Handler, request: Request, peer: Peer, end: Callable[[Outcome], object]
    ) -> None:
        """Run a handler; what it raises becomes an answer."""
        try:
            result = handler(request, peer)
        except RequestError as error:
            end(error)
        except (Exception, SystemExit) as error:  # whoever asked waits for an answer all the same
            logger.exception("handler of %r failed for %s", request.type, peer)
            end(request_error("internal", f"{type(error).__name__}: {error}"))
        else:
            if isinstance(result, Future):
                self._await(result, request, peer, end)
            else:
                end(result if isinstance(result, Reply) else Reply(result or {}))

    def _await(
        self, future: Future[Any], request: Request, peer: Peer, end: Callable[[Outcome], object]
    ) -> None:
        """Go on, on the loop, when a future is done or the peer stops waiting."""
        late = DeadlineError(f"{request.type!r} was not done before its deadline, and may be yet")
        wait = min(request.due - time.monotonic(), _LONGEST_S)

        def give_up() -> None:
            end(late)
            future.cancel()  # whoever made the promise may forget it

        def conclude() -> None:
            if timer.take() is not None:  # else the deadline was first
                self._run(lambda *_: future.result(), request, peer, end)

        def hand_over(_: Future[Any]) -> None:
            with suppress(LoopStoppedError):
                self._loop.call_here(conclude)

        with suppress(LoopStoppedError):
            timer = self._loop.call_later(wait, give_up)
            future.add_done_callback(hand_over)

    def _finish(self, request: Request, peer: Peer, who: W, outcome: Outcome) -> None:
        """Answer a request, and everybody who asked the same by its key; on the loop."""
        waiting: list[W] = []
        if request.key is not None:
            waiting = self._repeats.finish(request.type, request.key, outcome, client=peer.client)
        for each in (who, *waiting):
            self._answer(each, outcome)
