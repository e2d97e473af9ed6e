"""WorkerProcess: one worker as its server sees it; started, told, heard, and ended."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from zmqruntime._errors import FrameError
from zmqruntime.execution._pipe import MessageReader, PipeWriter, framed
from zmqruntime.execution._worker import COMMAND, MARK
from zmqruntime.execution._worker_messages import Exit, FromWorker, Ready, Setup
from zmqruntime.loop._forks import close_in_forked_children
from zmqruntime.processes._identity import identity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import msgspec

    from zmqruntime.loop._loop import IOThread

__all__ = ["WorkerProcess"]

logger = logging.getLogger(__name__)

_OUTPUT_BYTES = 1 << 16


class WorkerProcess:
    """A process of our own that does one job at a time; made and used on the loop.

    Parameters
    ----------
    loop
        Thread that hears it.
    functions
        What it may run.
    mark
        Name of the server, put into its environment.
    env
        Further variables.
    on_message, on_output
        Called with what it says, and with what it or its children print.
    on_end
        Called once with the reason, when it is gone and everything it said was heard.

    Raises
    ------
    OSError
        If no process can be started.
    """

    def __init__(
        self,
        loop: IOThread,
        functions: Mapping[str, str],
        *,
        mark: str,
        env: Mapping[str, str],
        on_message: Callable[[WorkerProcess, FromWorker], object],
        on_output: Callable[[WorkerProcess, bytes], object],
        on_end: Callable[[WorkerProcess, str], object],
    ) -> None:
        self._loop = loop
        self._on_message = on_message
        self._on_output = on_output
        self._on_end = on_end
        self.ready = False
        self.broken: dict[str, str] = {}
        """Kinds whose functions could not be imported, and why."""
        self.job: tuple[str, int] | None = None
        """Name and attempt of the job it does."""
        self.killed = False
        """Whether it was ended by force, by us."""
        self._ended = False
        self._reader: MessageReader[FromWorker] = MessageReader(FromWorker)
        theirs, ours = _pipes()
        commands, self._replies, self._output, self._leash = ours
        command_read, reply_write, output_write, leash_read = theirs
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", COMMAND, *map(str, (command_read, reply_write, leash_read))],
                stdin=subprocess.DEVNULL,
                stdout=output_write,
                stderr=output_write,
                env={**os.environ, **env, MARK: mark, "PYTHONUNBUFFERED": "1"},
                pass_fds=(command_read, reply_write, leash_read),
                start_new_session=True,
            )
        except BaseException:
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._writer = PipeWriter(commands, name=f"worker-{self.pid}-commands")
        # a child that was not waited for keeps its entry, so it can be read even if it ended
        self.identity = identity_of(self.pid)
        close_in_forked_children(self)
        self._pidfd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else None
        for descriptor in (self._replies, self._output):
            os.set_blocking(descriptor, False)
        loop.register(self._replies, self._on_replies)
        loop.register(self._output, self._on_printed)
        if self._pidfd is not None:
            loop.register(self._pidfd, self._finish)
        self.tell(Setup(functions=dict(functions)))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def tell(self, message: msgspec.Struct) -> None:
        """Send it a message; never waits."""
        self._writer.write(framed(message))

    def hear_output(self) -> None:
        """Take in what it has printed until now."""
        while True:
            try:
                data = os.read(self._output, _OUTPUT_BYTES)
            except OSError:  # nothing more for now, or for ever
                return
            if not data:
                return
            self._on_output(self, data)

    def kill(self) -> None:
        """End it by force, with its process group; `on_end` is called once it is gone."""
        self.killed = True
        self._kill()

    def end(self, timeout: float) -> None:
        """Ask it to end, wait, and end it by force if it does not; `on_end` is not called."""
        if self._ended:
            return
        self._ended = True
        self.tell(Exit())
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self._kill()
        self._let_go()

    def close(self) -> None:
        """Close the pipes, which ends the process; for a child that `os.fork` made of us."""
        self._writer.close()
        for descriptor in (self._replies, self._output, self._leash, self._pidfd):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def _kill(self) -> None:
        if self._process.returncode is None:
            # our child, and not waited for: its pid and its group are still its own
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def _on_replies(self) -> None:
        try:
            messages, closed = self._reader.drain(self._replies)
        except FrameError as error:
            logger.error("worker %d writes what is no message: %s", self.pid, error)  # noqa: TRY400
            self._loop.unregister(self._replies)
            self._kill()
            return
        for message in messages:
            if isinstance(message, Ready):
                self.ready = True
                self.broken = message.broken
            self._on_message(self, message)
        if closed:
            self._loop.unregister(self._replies)
            if self._pidfd is None:
                self._finish()
            else:
                self._kill()  # it can say nothing more

    def _on_printed(self) -> None:
        try:
            data = os.read(self._output, _OUTPUT_BYTES)
        except BlockingIOError:
            return
        if data:
            self._on_output(self, data)
        else:
            self._loop.unregister(self._output)

    def _finish(self) -> None:
        """Hear its last words, and say that it is gone."""
        if self._ended:
            return
        self._ended = True
        closed = False
        while not closed:
            try:
                messages, closed = self._reader.drain(self._replies)
            except (FrameError, OSError) as error:  # cut off by its end, perhaps
                logger.warning("the last words of worker %d cannot be read: %s", self.pid, error)
                break
            for message in messages:
                self._on_message(self, message)
            if not messages:
                break  # a child of its own may hold the pipe open
        self.hear_output()
        self._kill()  # what it started
        code = self._process.wait()
        self._let_go()
        self._on_end(self, _reason(self.pid, code, by_us=self.killed))

    def _let_go(self) -> None:
        for descriptor in (self._replies, self._output, self._pidfd):
            if descriptor is not None:
                self._loop.unregister(descriptor)
        self._process.wait()
        self.close()


def _pipes() -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Make the pipes: commands, replies, output, leash; theirs and ours."""
    made: list[tuple[int, int]] = []
    try:
        for _ in range(4):
            made.append(os.pipe())  # noqa: PERF401 - those made are closed when one fails
    except OSError:
        for pair in made:
            for descriptor in pair:
                os.close(descriptor)
        raise
    commands, replies, output, leash = made
    theirs = (commands[0], replies[1], output[1], leash[0])
    return theirs, (commands[1], replies[0], output[0], leash[1])


def _reason(pid: int, code: int, *, by_us: bool) -> str:
    if by_us:
        return f"process {pid} was ended by force"
    if code < 0:
        return f"process {pid} was ended by signal {-code} ({signal.Signals(-code).name})"
    return f"process {pid} ended by itself with exit status {code}"
