"""Pipelines as Python source: written to be edited, read without executing anything."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import ParameterError, SourceError
from openhcs.codegen import Call, Constructor, Name, Names, Reference, evaluate, render
from openhcs.functions import (
    LIBRARIES,
    REGISTRY,
    Axes,
    FunctionSpec,
    Kind,
    Libraries,
    adapt,
    installed_functions,
    spec_of,
)
from openhcs.pipeline._pipeline import Branch, Pipeline, Route
from openhcs.pipeline._step import PREVIOUS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from openhcs.codegen import Place, SourceValue
    from openhcs.pipeline._pipeline import Part

__all__ = ["evaluated", "from_source", "load", "read_text", "to_source", "written"]

_TARGET = "pipeline"
_FUNCTIONS = "openhcs.functions"
_PIPELINE = ("name", "keep", "otherwise", "missing", "pixel_um", "device", "wells")


def to_source(pipeline: Pipeline) -> str:
    """Write a pipeline as Python source that `from_source` reads back.

    Examples
    --------
    >>> from openhcs.functions import project_max
    >>> print(to_source(Pipeline(Step(project_max))), end="")
    from openhcs import Pipeline, Step
    from openhcs.functions import project_max
    <BLANKLINE>
    pipeline = Pipeline(
        Step(project_max),
    )
    """
    return render(_TARGET, written(pipeline))


def from_source(
    source: str,
    filename: str = "<pipeline>",
    *,
    functions: Iterable[Callable[..., Any]] = (),
    libraries: Libraries = LIBRARIES,
) -> Pipeline:
    """Read a pipeline from Python source, without executing it.

    Parameters
    ----------
    source
        Text that assigns a Pipeline to ``pipeline``.
    filename
        How messages call the text.
    functions
        Declared functions that the text may name beside the registered ones and those of
        installed packages, which `openhcs.functions.installed_functions` finds.
    libraries
        Modules whose plain functions the text may `adapt`.

    Raises
    ------
    SourceError
        If the text says anything but a pipeline; the message has a line for each problem, with
        file, line and column.
    """
    value = evaluated(source, filename, _TARGET, {}, functions, libraries)
    if not isinstance(value, Pipeline):
        message = f"{filename}:1:1: {_TARGET!r} is {_described(value)}, not a Pipeline"
        raise SourceError(message)
    return value


def evaluated(
    source: str,
    filename: str,
    target: str,
    further: Mapping[str, Constructor],
    functions: Iterable[Callable[..., Any]],
    libraries: Libraries,
) -> object:
    """Read what a text assigns to a name; it may be made of pipelines and of further things.

    Parameters
    ----------
    source, filename, functions, libraries
        As in `from_source`.
    target
        The name.
    further
        What else of openhcs the text may call, by name.

    Raises
    ------
    SourceError
        If the text says anything that it may not.
    """
    names = dict(_names(functions, libraries))
    names["openhcs"] = {**names["openhcs"], **further}
    return evaluate(source, filename, names, target, find=_of_installed_package)


def read_text(path: Path) -> str:
    """Read a file of source.

    Raises
    ------
    SourceError
        If it is not UTF-8 text.
    OSError
        If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path}:1:1: the file is not UTF-8 text"
        raise SourceError(message) from error


def load(
    path: str | Path,
    *,
    functions: Iterable[Callable[..., Any]] = (),
    libraries: Libraries = LIBRARIES,
) -> Pipeline:
    """Read a pipeline from a file of Python source, without executing it.

    Parameters
    ----------
    path
        The file.
    functions, libraries
        As in `from_source`.

    Raises
    ------
    SourceError
        If the file is not UTF-8 text or says anything but a pipeline.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    source = read_text(path)
    return from_source(source, str(path), functions=functions, libraries=libraries)


def _names(functions: Iterable[Callable[..., Any]], libraries: Libraries) -> Names:
    names: dict[str, dict[str, Constructor | Reference]] = {
        "openhcs": {
            "Branch": Constructor(_branch),
            "Pipeline": Constructor(_pipeline),
            "Route": Constructor(_route),
            "Step": Constructor(_step, placed=True),
        },
        _FUNCTIONS: {name: Reference(spec) for name, spec in REGISTRY.items()}
        | {"adapt": Constructor(partial(_adapt, libraries))},
    }
    for spec in map(spec_of, functions):
        names.setdefault(_module(spec), {})[spec.name] = Reference(spec)
    return names


def _of_installed_package(module: str) -> Mapping[str, Reference] | None:
    """Give what an installed package offers under a module's name."""
    functions = installed_functions(module)
    return {name: Reference(spec) for name, spec in functions.items()} if functions else None


def _adapt(libraries: Libraries, /, *arguments: object, **keywords: object) -> FunctionSpec:
    """Adapt a function that a text names."""
    if len(arguments) != 1 or not isinstance(arguments[0], str):
        message = "adapt takes the module and name of one function as text, and name=value"
        raise ParameterError(message, 0)
    for name in keywords:
        if name not in ("axes", "gives", "takes"):
            message = f"adapt has no parameter {name!r}; it takes axes, gives and takes"
            raise ParameterError(message, name)
    if not libraries.allows(arguments[0]):
        message = (
            f"{arguments[0]!r} may not be named here: allowed are functions of "
            f"{', '.join(libraries)}"
        )
        raise ParameterError(message, 0)
    return adapt(arguments[0], **keywords)  # type: ignore[arg-type]  # adapt checks them


def _module(spec: FunctionSpec) -> str:
    """Give the module that a function is imported from in a pipeline."""
    return _FUNCTIONS if REGISTRY.get(spec.name) is spec else spec.call.__module__


def _pipeline(*parts: Part, **keywords: Any) -> Pipeline:
    _check_keywords("a pipeline", keywords, _PIPELINE)
    return Pipeline(*parts, **keywords)


def _branch(*parts: Part, **keywords: object) -> Branch:
    _check_keywords("a branch", keywords, ())
    return Branch(*parts)


def _route(*branches: Mapping[str, Part], **keywords: Any) -> Route:
    _check_keywords("a route", keywords, ("otherwise",))
    if len(branches) != 1 or not keywords:
        message = (
            "a route takes one dict of parts by channel name, and otherwise= for the channels "
            "that are not named: 'pass', 'drop', 'error', or a part"
        )
        raise ParameterError(message)
    return Route(branches[0], **keywords)


def _check_keywords(what: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    for name in given:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes parts alone"
            message = f"{what} has no {name!r}; {takes}"
            raise ParameterError(message, name)


def _step(place: Place, /, *arguments: object, **keywords: object) -> Step:
    if len(arguments) != 1:
        message = "a step begins with one function; everything else is given as name=value"
        raise ParameterError(message, 1 if arguments else None)
    # Checked argument by argument inside Step, which says what it does not take.
    return Step(arguments[0], **keywords).placed(place)  # type: ignore[arg-type]


def written(part: Part) -> Call:
    """Give a part of a pipeline as a call to be rendered."""
    match part:
        case Step():
            return _written_step(part)
        case Pipeline():
            made = {"name": part.name, **part.settings.made, "wells": part.wells}
            keywords = {name: made[name] for name in _PIPELINE if made.get(name) is not None}
            parts = tuple(map(written, part.parts))
            return Call(Name("openhcs", "Pipeline"), parts, keywords, spread=True)
        case Branch():
            return Call(Name("openhcs", "Branch"), tuple(map(written, part.parts)), spread=True)
        case Route():
            branches = {channel: written(branch) for channel, branch in part.branches}
            rest = part.otherwise if isinstance(part.otherwise, str) else written(part.otherwise)
            name = Name("openhcs", "Route")
            return Call(name, (branches,), {"otherwise": rest}, spread=True)


def _written_step(step: Step) -> Call:
    keywords: dict[str, SourceValue] = {}
    if step.name != step.spec.name:
        keywords["name"] = step.name
    if step.channel is not None:
        keywords["channel"] = step.channel[0] if len(step.channel) == 1 else step.channel
    if step.otherwise is not None:
        keywords["otherwise"] = step.otherwise
    if step.input != PREVIOUS:
        keywords["input"] = step.input
    if step.keep is not None:
        keywords["keep"] = step.keep
    if step.device is not None:
        keywords["device"] = step.device
    if step.wells is not None:
        keywords["wells"] = step.wells
    keywords.update(step.inputs)
    keywords.update(step.parameters)
    return Call(Name("openhcs", "Step"), (_written_function(step.spec),), keywords)


def _written_function(spec: FunctionSpec) -> SourceValue:
    if spec.library is None:
        return Name(_module(spec), spec.name)
    keywords: dict[str, SourceValue] = {}
    if spec.axes is not Axes.PLANE:
        keywords["axes"] = str(spec.axes)
    if spec.library.takes is not Kind.IMAGE:
        keywords["takes"] = str(spec.library.takes)
    if spec.library.gives is not Kind.IMAGE:
        keywords["gives"] = str(spec.library.gives)
    return Call(Name(_FUNCTIONS, "adapt"), (spec.library.path,), keywords)


def _described(value: object) -> str:
    if isinstance(value, type(None) | bool | int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"
