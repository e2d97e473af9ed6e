"""Functions of other libraries, and plain ones of the user's own, made steps as they are."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from openhcs._errors import ParameterError
from openhcs.functions._inputs import PlaneArray, Stack
from openhcs.functions._registry import Axes, FunctionSpec, Kind, LibraryCall, Output

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["LIBRARIES", "Libraries", "adapt", "library_functions"]

_LABELS = "labels_of_step"
_ADAPTABLE = (Axes.PLANE, Axes.ZSTACK, Axes.TIME, Axes.CHANNELS)


class Libraries:
    """Modules whose functions the text of a pipeline may name.

    Parameters
    ----------
    allowed
        Names of modules; what lies below one is allowed as well.
    """

    def __init__(self, allowed: tuple[str, ...]) -> None:
        self._allowed = allowed

    def __iter__(self) -> Iterator[str]:
        return iter(self._allowed)

    def allows(self, path: str) -> bool:
        """Say whether a module, or a function by module and name, may be named."""
        public = not any(part.startswith("_") for part in path.split("."))
        return public and _below(path, self._allowed)

    def also(self, *modules: str) -> Libraries:
        """Give a list that allows further modules."""
        return Libraries((*self._allowed, *modules))


LIBRARIES = Libraries(
    (
        "scipy.ndimage",
        "skimage.exposure",
        "skimage.feature",
        "skimage.filters",
        "skimage.measure",
        "skimage.morphology",
        "skimage.restoration",
        "skimage.segmentation",
        "skimage.transform",
        "skimage.util",
    )
)
"""What a pipeline's text may name without being told more: arrays in, arrays out."""


def adapt(
    function: Callable[..., Any] | str,
    *,
    axes: Axes | str = Axes.PLANE,
    takes: Kind | str = Kind.IMAGE,
    gives: Kind | str = Kind.IMAGE,
) -> FunctionSpec:
    """Make a step of a function that takes an array first and returns one result.

    Parameters
    ----------
    function
        The function, or its module and name with a dot between, such as
        ``"skimage.filters.unsharp_mask"``. Workers import it by that name.
    axes
        What one call sees: ``plane`` (y, x); ``zstack`` (z, y, x); ``time`` (t, y, x) or
        ``channels`` (channel, y, x). It is called once for each of these and never sees more.
    takes
        ``image``, or ``labels`` for the labels that an earlier step gave, with ``plane`` alone.
    gives
        ``image`` (y, x); ``labels`` (y, x) of integers, 0 for background; ``table``, columns of
        equal length by name; or ``record``, one number or a mapping of them.

    Returns
    -------
    FunctionSpec
        To be handed to a step with the function's own parameters. Every parameter but the first
        may be given, as long as its value can be written as a literal.

    Raises
    ------
    ParameterError
        If there is no such function, or it cannot be called by these axes.

    Notes
    -----
    What the function returns is kept as it is, but for images of doubles, which become float32,
    and masks, which become 0 and 1. scikit-image's filters turn integers to floats from 0 to 1
    unless they are told ``preserve_range=True``.

    Examples
    --------
    >>> adapt("scipy.ndimage.percentile_filter").name
    'percentile_filter'
    """
    chosen, taken, given = (
        _one_of(Axes, axes, "axes"),
        _one_of(Kind, takes, "takes"),
        _one_of(Kind, gives, "gives"),
    )
    if chosen not in _ADAPTABLE:
        allowed = " or ".join(repr(str(each)) for each in _ADAPTABLE)
        message = f"a library's function is called by {allowed}, not by {str(chosen)!r}"
        raise ParameterError(message, "axes")
    if taken not in (Kind.IMAGE, Kind.LABELS):
        message = f"a function takes 'image' or 'labels', not {str(taken)!r}"
        raise ParameterError(message, "takes")
    if taken is Kind.LABELS and chosen is not Axes.PLANE:
        message = f"labels are taken plane by plane, not by {str(chosen)!r}"
        raise ParameterError(message, "axes")
    call = _found(function) if isinstance(function, str) else function
    path = function if isinstance(function, str) else _path_of(call)
    name = path.rpartition(".")[2]
    return FunctionSpec(
        name=name,
        call=_Adapted(call, taken, given, name),
        axes=chosen,
        outputs=(Output("image" if given is Kind.IMAGE else name, given),),
        collapses=chosen.consumed,
        inputs={_LABELS: (Kind.LABELS, None)} if taken is Kind.LABELS else {},
        needs=frozenset(),
        preparation=None,
        version=1,
        library=LibraryCall(path=path, takes=taken, gives=given),
    )


def library_functions(module: str) -> Mapping[str, Callable[..., Any]]:
    """Give the functions that a module offers, by name.

    Parameters
    ----------
    module
        Name of an installed module.

    Returns
    -------
    Mapping
        Public functions whose parameters can be told, in alphabetical order.

    Raises
    ------
    ParameterError
        If there is no such module.
    """
    found = _module(module)
    names = getattr(found, "__all__", None) or dir(found)
    calls = ((name, _offered(found, name)) for name in sorted(names))
    return {name: call for name, call in calls if call is not None}


def _found(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    if not module:
        message = f"{path!r} names no function: write its module, a dot and its name"
        raise ParameterError(message, 0)
    # Not out of a list of all: a worker asks for it in every well.
    call = _offered(_module(module), name)
    if call is None:
        known = library_functions(module)
        close = difflib.get_close_matches(name, known, n=1)
        advice = f"; did you mean '{module}.{close[0]}'?" if close else ""
        message = f"{module} has no function {name!r} that can be a step{advice}"
        raise ParameterError(message, 0)
    return call


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        message = f"there is no module {name!r} here: {error}"
        raise ParameterError(message, 0) from error


def _path_of(call: Callable[..., Any]) -> str:
    """Give the shortest public path under which a function is found again."""
    module, name = getattr(call, "__module__", ""), getattr(call, "__qualname__", "")
    if not module or "." in name or "<" in name:
        message = f"{call!r} has no name in a module, so that workers cannot import it"
        raise ParameterError(message, 0)
    public = [part for part in module.split(".") if not part.startswith("_")]
    for depth in range(len(public), 0, -1):
        candidate = ".".join(public[:depth])
        if module != "__main__" and getattr(_imported(candidate), name, None) is call:
            return f"{candidate}.{name}"
    return f"{module}.{name}"


def _imported(module: str) -> object:
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _offered(module: ModuleType, name: str) -> Callable[..., Any] | None:
    """Give a public function of a module whose parameters can be told; None if it is none."""
    public = getattr(module, "__all__", None)
    if name.startswith("_") or (public is not None and name not in public):
        return None
    call = getattr(module, name, None)
    if not callable(call) or inspect.isclass(call):
        return None
    try:
        first = next(iter(inspect.signature(call).parameters.values()), None)
    except (TypeError, ValueError):
        return None
    taken = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return call if first is not None and first.kind in taken else None


class _Adapted:
    """A function of a library, called as functions of pipelines are; equal by what it calls."""

    def __init__(self, call: Callable[..., Any], takes: Kind, gives: Kind, name: str) -> None:
        functools.update_wrapper(self, call)
        self._key = call, takes, gives, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Adapted) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __call__(self, first: Any, **parameters: Any) -> Any:
        call, takes, gives, name = self._key
        labels = parameters.pop(_LABELS, None)
        result = call(labels if takes is Kind.LABELS else _array(first), **parameters)
        if isinstance(result, np.ndarray) and gives is Kind.IMAGE:
            return _storable(result)
        if isinstance(result, np.ndarray) and gives is Kind.LABELS and result.dtype == np.bool_:
            message = "it gave a mask, in which objects have no numbers: label it first"
            raise TypeError(message)
        if gives is Kind.RECORD and not isinstance(result, Mapping):
            return {name: result}
        return result


def _storable(image: PlaneArray) -> PlaneArray:
    """Give doubles as float32 and masks as 0 and 1: images are stored in these."""
    if image.dtype == np.float64:
        return image.astype(np.float32)
    return image.view(np.uint8) if image.dtype == np.bool_ else image


def _array(value: Any) -> PlaneArray:
    """Give planes, stacks and planes by channel as one array."""
    if isinstance(value, Stack):
        return np.asarray(value)
    if isinstance(value, Mapping):
        return np.stack([value[name] for name in value])
    array: PlaneArray = value
    return array


def _one_of(choices: type[Any], value: object, argument: str) -> Any:
    texts = [str(choice) for choice in choices]
    if isinstance(value, str) and str(value) in texts:
        return choices(str(value))
    close = difflib.get_close_matches(str(value), texts, n=1)
    advice = f"; did you mean {close[0]!r}?" if close else ""
    message = f"{argument} is {' or '.join(map(repr, texts))}, not {value!r}{advice}"
    raise ParameterError(message, argument)


def _below(path: str, modules: tuple[str, ...]) -> bool:
    return any(path == module or path.startswith(f"{module}.") for module in modules)
