"""Submissions that come at the same moment are read on several threads of the server."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import enum, sys, threading
import msgspec
from openhcs._typed import from_plain

sys.setswitchinterval(1e-6)
PLAIN = {"number": 1, "word": "w3", "words": ["w1"]}
for turn in range(300):
    Word = enum.StrEnum("Word", {f"W{n}": f"w{n}" for n in range(30)})
    Shape = msgspec.defstruct("Shape", [("number", int), ("word", Word), ("words", list[Word])])
    found, together = [], threading.Barrier(4)

    def read():
        together.wait()
        found.append(from_plain(PLAIN, Shape).words == [Word.W1])

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4, found
"""


def test_threads_that_read_into_a_type_for_the_first_time_get_on_with_each_other() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
