"""Where arrays are computed: in this process, or on a GPU.

A function is written once. It asks for the tools that belong to the array it was handed, and calls
these in place of `numpy` and `scipy`: NumPy's and SciPy's own, or those of CuPy, which have the
same names and take the same arguments. What has no counterpart there, such as a watershed, is done
on the host, by a transfer that stands in the text.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "ARRAYS",
    "Device",
    "Tools",
    "device_problem",
    "from_device",
    "gpu_free_bytes",
    "gpu_is_lost",
    "on_device",
    "on_host",
    "out_of_memory",
    "tools_of",
]

Device: TypeAlias = Literal["cpu", "gpu"]
"""Where a step computes: in the processors of the computer, as every function can, or on the first
NVIDIA GPU that the process sees, as functions can that say so."""

ARRAYS = "cupy"
"""Package whose arrays lie on a GPU, for functions that compute with arrays."""

_EXTRA = "gpu"
_FULL = ("OutOfMemoryError", "ResourceExhaustedError")
"""How CuPy and PyTorch, and TensorFlow, call it when a GPU's memory is full."""
_FULL_SAID = ("cudaErrorMemoryAllocation", "CUFFT_ALLOC_FAILED")
"""How the driver, and the library for Fourier transforms, say so."""
_BROKEN = ("CUDARuntimeError", "CUDADriverError", "AcceleratorError")
"""How CuPy, and PyTorch, call what the driver says; after most of it a process is of no use."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What computes on arrays where they lie.

    Attributes
    ----------
    arrays
        Package that has NumPy's names.
    algorithms
        Package that has SciPy's names.
    """

    arrays: str
    algorithms: str

    @property
    def xp(self) -> Any:
        """What to call in place of `numpy`."""
        return importlib.import_module(self.arrays)

    @property
    def ndimage(self) -> Any:
        """What to call in place of `scipy.ndimage`."""
        return importlib.import_module(f"{self.algorithms}.ndimage")

    @property
    def fft(self) -> Any:
        """What to call in place of `scipy.fft`."""
        return importlib.import_module(f"{self.algorithms}.fft")

    def take(self, array: NDArray[Any]) -> Any:
        """Give an array of the host, or one that is there already, as one of these tools' own."""
        return self.xp.asarray(array)


_HOST = Tools("numpy", "scipy")
_DEVICE = Tools(ARRAYS, "cupyx.scipy")


def tools_of(array: object) -> Tools:
    """Give the tools that an array belongs to.

    Raises
    ------
    TypeError
        If it is an array of neither NumPy nor CuPy.
    """
    if isinstance(array, np.ndarray):
        return _HOST
    if _is_on_device(array):
        return _DEVICE
    message = f"{type(array).__module__}.{type(array).__name__} is no array of NumPy or CuPy"
    raise TypeError(message)


def on_host(array: Any) -> NDArray[Any]:
    """Give an array as one of NumPy, transferred where it lies on a GPU."""
    if _is_on_device(array):
        found: NDArray[Any] = array.get()
        return found
    return np.asarray(array)


def on_device(value: Any) -> Any:
    """Transfer the arrays of a value to the GPU; whatever else there is stays as it is."""
    if isinstance(value, np.ndarray):
        return _DEVICE.take(value)
    return value


def from_device(value: Any) -> Any:
    """Transfer all arrays in what a function gave to the host: a dataclass, a mapping or an array.

    See Also
    --------
    on_device : The way there.
    """
    if _is_on_device(value):
        return on_host(value)
    if isinstance(value, Mapping):
        return {name: from_device(part) for name, part in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = ((part.name, getattr(value, part.name)) for part in dataclasses.fields(value))
        return dataclasses.replace(value, **{name: from_device(part) for name, part in parts})
    return value


def device_problem(package: str) -> str | None:
    """Say why a package cannot compute on a GPU in this process; None when it can.

    Parameters
    ----------
    package
        ``cupy``, ``torch`` or ``tensorflow``.
    """
    if importlib.util.find_spec(package) is None:
        install = f"'openhcs[{_EXTRA}]'" if package == ARRAYS else package
        return f"{package} is not installed: pip install {install}"
    try:
        count = _count(package)
    except Exception as error:  # noqa: BLE001  # whatever a driver says is the answer
        return f"{package} finds no GPU: {str(error) or type(error).__name__}"
    if count == 0:
        return f"{package} is installed, and finds no NVIDIA GPU"
    return None


def _count(package: str) -> int:
    """Count the GPUs that a package sees."""
    module = importlib.import_module(package)
    match package:
        case "torch":
            return int(module.cuda.device_count())
        case "tensorflow":
            return len(module.config.list_physical_devices("GPU"))
        case _:
            return int(module.cuda.runtime.getDeviceCount())


def gpu_free_bytes(package: str) -> int | None:
    """Say how much memory of the GPU is free, as a package tells it.

    Parameters
    ----------
    package
        ``cupy``, ``torch`` or ``tensorflow``.

    Returns
    -------
    int or None
        None where there is no GPU, or the package does not tell.
    """
    if package == "tensorflow" or device_problem(package) is not None:
        return None
    cuda = importlib.import_module(package).cuda
    free, _ = cuda.mem_get_info() if package == "torch" else cuda.runtime.memGetInfo()
    return int(free)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory of a GPU is full."""
    if any(kind.__name__ in _FULL for kind in type(error).__mro__):
        return True
    said = any(word in str(error) for word in _FULL_SAID)
    return said and _is_of(error, (*_BROKEN, "CuFFTError"))


def gpu_is_lost(error: BaseException | None) -> bool:
    """Say whether the driver ended what a process does on a GPU, so that a new one has to go on."""
    while error is not None:
        if _is_of(error, _BROKEN):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of(error: BaseException, kinds: tuple[str, ...]) -> bool:
    return any(kind.__name__ in kinds for kind in type(error).__mro__)


def _is_on_device(array: object) -> bool:
    return type(array).__module__.partition(".")[0] == ARRAYS
