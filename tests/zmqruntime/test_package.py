from __future__ import annotations

import subprocess
import sys

import zmqruntime

FOREIGN = ("openhcs", "polystore", "pyqt_reactive", "numpy", "PyQt6")
HEAVY = ("asyncio", "multiprocessing", "numpy", "zmq.asyncio")


def test_public_names_are_there_and_sorted() -> None:
    assert zmqruntime.__all__ == sorted(zmqruntime.__all__)
    assert all(hasattr(zmqruntime, name) for name in zmqruntime.__all__)


def test_importing_it_brings_nothing_heavy_and_no_sibling() -> None:
    code = "import sys, zmqruntime, zmqruntime.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {*done.stdout.split()}.isdisjoint({*FOREIGN, *HEAVY})


def test_every_error_is_also_a_builtin() -> None:
    leaves = [
        getattr(zmqruntime, name)
        for name in zmqruntime.__all__
        if isinstance(getattr(zmqruntime, name), type)
        and issubclass(getattr(zmqruntime, name), zmqruntime.ZmqRuntimeError)
        and not getattr(zmqruntime, name).__subclasses__()
    ]
    assert leaves
    for leaf in leaves:
        foreign = [
            each
            for each in leaf.__mro__
            if each.__module__ == "builtins" and each not in (Exception, BaseException, object)
        ]
        assert foreign, leaf
