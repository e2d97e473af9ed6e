"""Admission: which submissions become jobs, and which are answered with one that there is."""

from __future__ import annotations

import secrets
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from zmqruntime._errors import BusyError, ConflictError, InvalidRequestError
from zmqruntime.control._messages import Reply
from zmqruntime.execution._journal import digest_of
from zmqruntime.execution._live import LiveJob
from zmqruntime.execution._record import JobRecord
from zmqruntime.execution._status import ExecutionStatus
from zmqruntime.execution._step import Accepted, complete

if TYPE_CHECKING:
    from collections.abc import Collection
    from concurrent.futures import Future

    from zmqruntime.execution._board import Board
    from zmqruntime.execution._journal import Journal
    from zmqruntime.execution._record import NewJob
    from zmqruntime.execution._step import Step

    Answer = Future[Reply]

__all__ = ["Admission"]


class Admission:
    """The way into the queue; on its loop.

    Parameters
    ----------
    journal
        Knows the keys.
    board
        Takes the jobs.
    kinds
        Jobs that can be run.
    most
        How many may wait.
    most_each
        How many of one client may wait.
    """

    def __init__(
        self, journal: Journal, board: Board, *, kinds: Collection[str], most: int, most_each: int
    ) -> None:
        self._journal = journal
        self._board = board
        self._kinds = kinds
        self._most = most
        self._most_each = most_each

    def admit(self, new: NewJob, client: str, answer: Answer, step: Step) -> None:
        """Make a submission part of a step, or say why not.

        Parameters
        ----------
        new
            What is to be done.
        client
            Who wants it.
        answer
            Completed when the step is written down.
        step
            What is about to be written down.

        Raises
        ------
        RequestError
            One of its leaves, if the job cannot be taken.
        """
        if new.kind not in self._kinds:
            raise InvalidRequestError(
                f"no jobs of kind {new.kind!r} here; known are {sorted(self._kinds)}"
            )
        if new.key is not None and self._is_repeat(new, new.key, client, answer, step):
            return
        waiting = len(self._board.line)
        if waiting >= self._most:
            raise BusyError(f"{waiting} jobs wait already: try again later", retryable=True)
        own = self._board.line.waiting_of(client)
        if own >= self._most_each:
            raise BusyError(
                f"{own} jobs of yours wait already, and no more may of one client: submit this one "
                "when some of them have begun, or cancel some"
            )
        record = JobRecord(
            id=secrets.token_hex(8),
            seq=self._journal.next_seq(),
            kind=new.kind,
            state=ExecutionStatus.QUEUED,
            client=client,
            key=new.key,
            priority=new.priority,
            retryable=new.retryable,
            submitted=time.time(),
            deadline=new.deadline,
            expected=len(new.units or ()),
        )
        live = LiveJob(record, new.units)
        live.add_state(record, record.submitted)
        live.record = replace(record, events=live.last_event)
        self._board.add(live)
        step.accept(Accepted(new=new, live=live, futures=[answer]))

    def reply(self, record: JobRecord, *, repeated: bool) -> dict[str, Any]:
        """Make the body of the ``accepted`` reply."""
        return {
            "id": record.id,
            "seq": record.seq,
            "state": record.state.value,
            "position": self._board.line.position(record.seq),
            "repeated": repeated,
        }

    def _is_repeat(self, new: NewJob, key: str, client: str, answer: Answer, step: Step) -> bool:
        """Answer a submission whose key is known with the job that it stands for."""
        twin = step.keys.get((client, key))
        if twin is not None:
            if digest_of(twin.new) != digest_of(new):
                raise _conflict(key, twin.live.record.id)
            twin.futures.append(answer)
            return True
        known = self._journal.known(client, key)
        if known is None:
            return False
        if known.digest != digest_of(new):
            raise _conflict(key, known.id)
        live = self._board.live.get(known.id)
        record = live.record if live is not None else self._journal.record(known.seq)
        if record is None:  # its record was forgotten, its key was not
            body = {"id": known.id, "seq": known.seq, "state": "", "repeated": True}
        else:
            body = self.reply(record, repeated=True)
        step.answers.append(partial(complete, answer, Reply(body, "accepted")))
        return True


def _conflict(key: str, id_: str) -> ConflictError:
    return ConflictError(
        f"the key {key!r} stands for job {id_}, which is to do something else: use another key",
        details={"id": id_},
    )
