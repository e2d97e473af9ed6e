from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = Path(__file__).with_name("nursery_program.py")
SOON = 20.0  # seconds; far more than any of this takes


class Victim:
    """A child of the nursery: what it said, and the means to end it."""

    def __init__(self, name: str, folder: Path, changed: threading.Condition) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.said: list[tuple[str, ...]] = []
        self._changed = changed

    def all(self, word: str) -> list[str]:
        """Everything that it said after a word, in order."""
        return [rest for first, *others in tuple(self.said) if first == word for rest in others]

    def wait_for(self, word: str, count: int = 1) -> str:
        """Wait until it has said a word so many times, and return what it said with the last."""

        def found() -> list[tuple[str, ...]]:
            return [words for words in self.said if words[0] == word]

        with self._changed:
            heard = self._changed.wait_for(lambda: len(found()) >= count, SOON)
            assert heard, f"no {word!r} of {self.name} in {self.said[-20:]}:\n{self.errors}"
            return " ".join(found()[count - 1][1:])

    @property
    def pid(self) -> int:
        return int(self.wait_for("started"))

    @property
    def status(self) -> int:
        """How it ended, once it has."""
        return int(self.wait_for("exit"))

    @property
    def errors(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def signal(self, number: signal.Signals) -> None:
        # it is not reaped before the nursery says so, and only what was said is signalled
        if not self.all("exit"):
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)


class Nursery:
    """Starts victims quickly, and hears what they say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(10**9)))
        self.random = random.Random(self.seed)
        self._changed = threading.Condition()
        self._victims: dict[str, Victim] = {}
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
        self._process = subprocess.Popen(
            [sys.executable, str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, role: str, *arguments: object, group: Victim | None = None) -> Victim:
        name = f"{role}-{next(self._numbers[role])}"
        victim = Victim(name, self.folder, self._changed)
        with self._changed:
            self._victims[name] = victim
        where = f"@{group.name}" if group is not None else ""
        words = [name, f"{role}{where}", str(self.folder), *map(str, arguments)]
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(words) + "\n")
        return victim

    def pause(self, most: float) -> None:
        """Let a random moment come; nothing is awaited, so nothing can be missed."""
        threading.Event().wait(self.random.uniform(0, most))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # it kills whoever is left
        self._process.wait(SOON)
        self._listener.join(SOON)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, *words = line.split()
            with self._changed:
                self._victims[name].said.append(tuple(words))
                self._changed.notify_all()


@pytest.fixture
def nursery(tmp_path: Path) -> Iterator[Nursery]:
    """Victims for this test; a failure is repeated with FAULTS_SEED set to the seed it prints."""
    folder = tmp_path / "victims"
    folder.mkdir()
    nursery = Nursery(folder)
    sys.stdout.write(f"FAULTS_SEED={nursery.seed}\n")
    yield nursery
    nursery.close()


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often to do something: a sample as a rule, the whole in a soak run."""
    soak = bool(os.environ.get("ZMQRUNTIME_SOAK"))
    return lambda sample, whole: whole if soak else sample
