"""Child processes of a benchmark, which are told what to do line by line."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

__all__ = ["Child", "answer"]

PATIENCE_S = 60.0


class Child:
    """A Python program of this folder in another process.

    It says a line when it is ready, and one for each line that it is told. It ends when its
    standard input is closed, so nothing is left however the parent ends.
    """

    def __init__(self, program: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said = self.listen()

    @property
    def pid(self) -> int:
        return self._process.pid

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def listen(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args!r} ended: see its error above")
        return line.strip()

    def ask(self, line: str) -> str:
        self.tell(line)
        return self.listen()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def answer(line: object) -> None:
    """Say a line to the parent."""
    print(line, flush=True)
