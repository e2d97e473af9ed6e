from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
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

    def wait_for(self, word: str, count: int = 1, *, within: float = SOON) -> str:
        """Wait until it has said a word so many times, and return what it said with the last."""

        def found() -> list[tuple[str, ...]]:
            return [words for words in self.said if words[0] == word]

        with self._changed:
            heard = self._changed.wait_for(lambda: len(found()) >= count, within)
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

    def __init__(self, folder: Path, *wrapper: str) -> None:
        self.folder = folder
        self.seed = int(os.environ.get("FAULTS_SEED", random.SystemRandom().randrange(10**9)))
        self.random = random.Random(self.seed)
        self._changed = threading.Condition()
        self._victims: dict[str, Victim] = {}
        self._numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
        self._process = subprocess.Popen(
            [*wrapper, sys.executable, str(PROGRAM)],
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


@dataclass(frozen=True)
class Islands:
    """Two network namespaces, a link between them, and a nursery in each."""

    names: tuple[str, str]
    hosts: tuple[str, str]
    nurseries: tuple[Nursery, Nursery]

    def set_link(self, *, up: bool) -> None:
        run_ip("-n", self.names[0], "link", "set", "zr0", "up" if up else "down")


def run_ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def islands(tmp_path: Path) -> Iterator[Islands]:
    """Only the two namespaces made here are touched; whatever they hold goes with them."""
    if shutil.which("ip") is None:
        pytest.skip("needs the right to make network namespaces, and iproute2")
    names = (f"zr-{os.getpid()}-a", f"zr-{os.getpid()}-b")
    hosts = ("192.0.2.1", "192.0.2.2")  # set aside for documentation
    with ExitStack() as stack:
        try:
            for name in names:
                run_ip("netns", "add", name)
                stack.callback(run_ip, "netns", "delete", name)
            peer = ("peer", "name", "zr0", "netns", names[1])
            run_ip("-n", names[0], "link", "add", "zr0", "type", "veth", *peer)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"needs the right to make network namespaces: {error.stderr.strip()}")
        nurseries = []
        for name, host in zip(names, hosts, strict=True):
            run_ip("-n", name, "address", "add", f"{host}/24", "dev", "zr0")
            run_ip("-n", name, "link", "set", "lo", "up")
            run_ip("-n", name, "link", "set", "zr0", "up")
            folder = tmp_path / name
            folder.mkdir()
            nurseries.append(Nursery(folder, "ip", "netns", "exec", name))
            stack.callback(nurseries[-1].close)
        yield Islands(names, hosts, (nurseries[0], nurseries[1]))


@pytest.fixture
def small_tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory that is full after 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(folder)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs the right to mount a file system: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often to do something: a sample as a rule, the whole in a soak run."""
    soak = bool(os.environ.get("ZMQRUNTIME_SOAK"))
    return lambda sample, whole: whole if soak else sample
