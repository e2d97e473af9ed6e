"""Stands in for CuPy on computers without a GPU: its names, over arrays in the memory of the host.

It computes nothing that NumPy and SciPy do not; what it is for is to refuse. As CuPy's, its arrays
never become NumPy's by themselves, and are never mixed with them; NumPy's and SciPy's own functions
do not take them; a sum or a maximum is an array of no axes. It is stricter than CuPy in two ways:
arrays of NumPy are no index, and NumPy's functions are not dispatched. Each call is noted, for a
test that holds them all against the real CuPy, where that is installed.

``CUPY_DOUBLE_DEVICES`` says how many GPUs there are, 1 without; ``CUPY_DOUBLE_BYTES`` how large an
array may be. ``CUPY_DOUBLE_FREE`` says how many bytes are
free. ``CUPY_DOUBLE_BROKEN`` names a file: the process that finds it takes it away, and has
lost its GPU for ever.
"""

from __future__ import annotations

import operator
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CALLS", "asarray", "cuda", "lifted", "ndarray"]

__version__ = "0.double"

CALLS: set[tuple[str, str, int, tuple[str, ...]]] = set()
"""Module, name, number of positional arguments and keywords of everything that was called."""

_ATTRIBUTES = ("dtype", "nbytes", "ndim", "shape", "size")
_METHODS = (
    *("all", "any", "astype", "clip", "copy", "max", "mean", "min"),
    *("ravel", "reshape", "std", "sum"),
)


_LOST: list[str] = []


class OutOfMemoryError(MemoryError):
    """The memory of the GPU is full."""


class CUDARuntimeError(RuntimeError):
    """What the driver says."""


class ndarray:  # noqa: N801  # CuPy's name for it
    """An array that says nothing to NumPy."""

    __module__ = "cupy"
    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: Any) -> None:
        self._host = np.asarray(host)

    def __array__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        message = "Implicit conversion to a NumPy array is not allowed. Please use `.get()`"
        raise TypeError(message)

    def __getattr__(self, name: str) -> Any:
        if name in _ATTRIBUTES:
            return getattr(self._host, name)
        if name in _METHODS:
            return lifted(f"cupy.ndarray.{name}", getattr(self._host, name))
        message = f"arrays of CuPy have no {name!r} that this double knows of"
        raise AttributeError(message)

    @property
    def flags(self) -> SimpleNamespace:
        return SimpleNamespace(c_contiguous=self._host.flags.c_contiguous)

    @property
    def T(self) -> ndarray:  # noqa: N802  # CuPy's name for it
        return ndarray(self._host.T)

    def get(self) -> np.ndarray[Any, Any]:
        return self._host.copy()

    def __getitem__(self, key: Any) -> ndarray:
        return ndarray(self._host[_key(key)])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._host[_key(key)] = bare(value)

    def __iter__(self) -> Iterator[ndarray]:
        return map(ndarray, self._host)

    def __len__(self) -> int:
        return len(self._host)

    def __bool__(self) -> bool:
        return bool(self._host)

    def __float__(self) -> float:
        return float(self._host)

    def __int__(self) -> int:
        return int(self._host)

    def __index__(self) -> int:
        return operator.index(self._host[()])

    def __neg__(self) -> ndarray:
        return ndarray(-self._host)

    def __invert__(self) -> ndarray:
        return ndarray(~self._host)


def _operators() -> None:
    names = "add sub mul truediv floordiv mod pow and or xor lt le gt ge eq ne"
    for name in names.split():
        of = getattr(operator, {"and": "and_", "or": "or_"}.get(name, name))

        def apply(self: ndarray, other: Any, of: Callable[..., Any] = of) -> ndarray:
            return ndarray(of(self._host, bare(other)))

        def mirrored(self: ndarray, other: Any, of: Callable[..., Any] = of) -> ndarray:
            return ndarray(of(bare(other), self._host))

        def in_place(self: ndarray, other: Any, of: Callable[..., Any] = of) -> ndarray:
            np.copyto(self._host, of(self._host, bare(other)), casting="same_kind")
            return self

        setattr(ndarray, f"__{name}__", apply)
        if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
            setattr(ndarray, f"__r{name}__", mirrored)
            setattr(ndarray, f"__i{name}__", in_place)


_operators()


def bare(value: Any) -> Any:
    """Give what a value stands for on the host; arrays of NumPy are refused."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray):
        message = f"Unsupported type {type(value)}"
        raise TypeError(message)
    if isinstance(value, tuple | list):
        return type(value)(bare(part) for part in value)
    return value


def _key(key: Any) -> Any:
    return tuple(map(bare, key)) if isinstance(key, tuple) else bare(key)


def dressed(value: Any) -> Any:
    """Give a result of NumPy or SciPy as CuPy would."""
    if isinstance(value, np.ndarray | np.generic):
        return ndarray(value)
    if isinstance(value, tuple):
        return tuple(map(dressed, value))
    return value


def lifted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of NumPy or SciPy take and give these arrays alone."""

    def call(*arguments: Any, **keywords: Any) -> Any:
        module, _, short = name.rpartition(".")
        CALLS.add((module, short, len(arguments), tuple(sorted(keywords))))
        given = {key: bare(value) for key, value in keywords.items()}
        result = function(*map(bare, arguments), **given)
        out = keywords.get("out")
        return out if out is not None else dressed(result)

    return call


class _Ufunc:
    def __init__(self, name: str, ufunc: np.ufunc) -> None:
        self._call = lifted(f"cupy.{name}", ufunc)
        self.reduceat = lifted(f"cupy.{name}.reduceat", ufunc.reduceat)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self._call(*arguments, **keywords)


def asarray(value: Any) -> ndarray:
    """Send an array to where these lie; the only way there."""
    CALLS.add(("cupy", "asarray", 1, ()))
    _check_driver()
    array = ndarray(value._host if isinstance(value, ndarray) else np.array(value))
    most = os.environ.get("CUPY_DOUBLE_BYTES")
    if most is not None and array._host.nbytes > int(most):
        message = f"Out of memory allocating {array._host.nbytes:,} bytes"
        raise OutOfMemoryError(message)
    return array


def _check_driver() -> None:
    flag = os.environ.get("CUPY_DOUBLE_BROKEN")
    if flag is not None and Path(flag).exists():
        Path(flag).unlink()
        _LOST.append(flag)
    if _LOST:
        message = "cudaErrorIllegalAddress: an illegal memory access was encountered"
        raise CUDARuntimeError(message)


def _device_count() -> int:
    count = int(os.environ.get("CUPY_DOUBLE_DEVICES", "1"))
    if count < 0:
        message = "cudaErrorInsufficientDriver: CUDA driver version is insufficient"
        raise CUDARuntimeError(message)
    return count


def _memory() -> tuple[int, int]:
    return int(os.environ.get("CUPY_DOUBLE_FREE", str(10**12))), 10**12


cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=_device_count, memGetInfo=_memory))


def __getattr__(name: str) -> Any:
    of = getattr(np, name)
    if isinstance(of, np.ufunc):
        return _Ufunc(name, of)
    return lifted(f"cupy.{name}", of)
