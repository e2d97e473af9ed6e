"""A pipeline: steps in order, and their form as Python source."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openhcs._errors import ParameterError, SourceError
from openhcs.codegen import Call, Constructor, Name, Names, Reference, evaluate, render
from openhcs.functions import REGISTRY, FunctionSpec, spec_of
from openhcs.pipeline._step import PREVIOUS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from openhcs.codegen import SourceValue

__all__ = ["Pipeline", "from_source", "load", "to_source"]

_TARGET = "pipeline"
_FUNCTIONS = "openhcs.functions"


@dataclass(frozen=True, slots=True, init=False)
class Pipeline:
    """Steps in order; each takes the images that the one before it gave, unless it says otherwise.

    Parameters
    ----------
    *steps
        At least one. Steps of one name get ``_2``, ``_3`` and so on behind it.

    Raises
    ------
    ParameterError
        If there is no step, something is not a step, or a step takes its images from one that
        does not stand before it.
    """

    steps: tuple[Step, ...]

    def __init__(self, *steps: Step) -> None:
        if not steps:
            message = "a pipeline has at least one step"
            raise ParameterError(message)
        for position, step in enumerate(steps):
            if not isinstance(step, Step):
                message = f"a pipeline is made of steps, not {_described(step)}: write Step(...)"
                raise ParameterError(message, position)
        object.__setattr__(self, "steps", steps)
        self._check_sources()

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each step, no two alike."""
        taken: set[str] = set()
        names: list[str] = []
        for step in self.steps:
            name, count = step.name, 1
            while name in taken:
                count += 1
                name = f"{step.name}_{count}"
            taken.add(name)
            names.append(name)
        return tuple(names)

    def _check_sources(self) -> None:
        names = self.names
        for position, step in enumerate(self.steps):
            wanted = step.source_step
            if wanted is not None and wanted not in names[:position]:
                close = difflib.get_close_matches(wanted, names[:position], n=1)
                advice = f"; did you mean 'step:{close[0]}'?" if close else ""
                message = (
                    f"{names[position]} takes its images from {step.input!r}, "
                    f"but no step before it has that name{advice}"
                )
                raise ParameterError(message, position)


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
    steps = tuple(_written(step) for step in pipeline)
    return render(_TARGET, Call(Name("openhcs", "Pipeline"), steps, spread=True))


def from_source(
    source: str, filename: str = "<pipeline>", *, functions: Iterable[Callable[..., Any]] = ()
) -> Pipeline:
    """Read a pipeline from Python source, without executing it.

    Parameters
    ----------
    source
        Text that assigns a Pipeline to ``pipeline``.
    filename
        How messages call the text.
    functions
        Declared functions that the text may name beside the registered ones.

    Raises
    ------
    SourceError
        If the text says anything but a pipeline; the message has file, line and column.
    """
    value = evaluate(source, filename, _names(functions), _TARGET)
    if not isinstance(value, Pipeline):
        message = f"{filename}:1:1: {_TARGET!r} is {_described(value)}, not a Pipeline"
        raise SourceError(message)
    return value


def load(path: str | Path) -> Pipeline:
    """Read a pipeline from a file of Python source, without executing it.

    Raises
    ------
    SourceError
        If the file is not UTF-8 text or says anything but a pipeline.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    try:
        source = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"{path}:1:1: the file is not UTF-8 text"
        raise SourceError(message) from error
    return from_source(source, str(path))


def _names(functions: Iterable[Callable[..., Any]]) -> Names:
    names: dict[str, dict[str, Constructor | Reference]] = {
        "openhcs": {"Pipeline": Constructor(_pipeline), "Step": Constructor(_step)},
        _FUNCTIONS: {name: Reference(spec) for name, spec in REGISTRY.items()},
    }
    for spec in map(spec_of, functions):
        names.setdefault(_module(spec), {})[spec.name] = Reference(spec)
    return names


def _module(spec: FunctionSpec) -> str:
    """Give the module that a function is imported from in a pipeline."""
    return _FUNCTIONS if REGISTRY.get(spec.name) is spec else spec.call.__module__


def _pipeline(*steps: Step, **keywords: object) -> Pipeline:
    for name in keywords:
        message = f"a pipeline takes steps alone, not {name!r}"
        raise ParameterError(message, name)
    return Pipeline(*steps)


def _step(*arguments: object, **keywords: object) -> Step:
    if len(arguments) != 1:
        message = "a step begins with one function; everything else is given as name=value"
        raise ParameterError(message, 1 if arguments else None)
    # Checked argument by argument inside Step, which says what it does not take.
    return Step(arguments[0], **keywords)  # type: ignore[arg-type]


def _written(step: Step) -> Call:
    keywords: dict[str, SourceValue] = {}
    if step.name != step.spec.name:
        keywords["name"] = step.name
    if step.channel is not None:
        keywords["channel"] = step.channel[0] if len(step.channel) == 1 else step.channel
    if step.otherwise is not None:
        keywords["otherwise"] = step.otherwise
    if step.input != PREVIOUS:
        keywords["input"] = step.input
    if step.keep:
        keywords["keep"] = True
    keywords.update(step.parameters)
    name = Name(_module(step.spec), step.spec.name)
    return Call(Name("openhcs", "Step"), (name,), keywords)


def _described(value: object) -> str:
    if isinstance(value, type(None) | bool | int | float | str):
        return repr(value)
    return f"a {type(value).__name__}"
