"""A plan: a pipeline resolved against a plate, as plain data.

Nothing is decided after this: which function with which parameters, which images go into it, what
its outputs are called, which wells run and which cannot. A plan is written as JSON for the worker
processes, which read it once.
"""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from openhcs._errors import CompileError
from openhcs.functions import (
    REGISTRY,
    Axes,
    Device,
    FunctionSpec,
    Kind,
    LibraryCall,
    adapt,
    spec_of,
)
from openhcs.pipeline._filling import filled_of
from openhcs.pipeline._settings import fill_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openhcs.functions import ParameterValue
    from openhcs.pipeline._filling import FilledPlane
    from openhcs.pipeline._pipeline import Pipeline
    from openhcs.pipeline._settings import Setting, Settings
    from openhcs.plates import PlateIndex

__all__ = ["Acquisition", "Plan", "PlannedInput", "PlannedOutput", "PlannedStep"]

Acquisition: TypeAlias = int | Literal["all"]
"""Which acquisition of a plate is used, from 0; all of them are cycles of staining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedInput:
    """A parameter that is filled with an earlier step's output.

    Attributes
    ----------
    parameter
        Keyword of the function.
    step
        Position of the step that gives it.
    output
        Name of that step's output.
    """

    parameter: str
    step: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedOutput:
    """A named output and the name under which it is stored.

    Attributes
    ----------
    name
        The function's name for it.
    kind
        What it is.
    stored
        Folder of a table or record, name of a label image; unique in the pipeline.
    """

    name: str
    kind: Kind
    stored: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """A step with everything resolved.

    Attributes
    ----------
    name
        Unique in the pipeline.
    function, module
        Name of the function and the module that it is imported from.
    version
        The function's version when the plan was made.
    library
        How a library's function is made a step; None for a function that declares itself.
    packages
        Versions of the packages, beside those that every step computes with, that the function
        needs; by name.
    files
        Files that hold the trained network that it computes with, and a hash of what they hold.
    axes
        What one call consumes.
    parameters
        All of them, defaults filled in.
    channels
        The channels that it works on; None for all.
    drops
        Channels that end here.
    previous
        Position of the step whose images go on where this one changes none; `PLATE` for the
        plate's own planes.
    source
        Position of the step whose images it takes; `PLATE` for the plate's own planes.
    wells
        The wells that it acts in; None for all.
    keep
        Whether its images are to be stored in any case.
    device
        Where it computes.
    inputs
        Parameters filled with earlier outputs.
    outputs
        Named outputs without the image.
    gives_image
        Whether it changes images; where it does not, they go on as they were.
    image
        Name of the image group that its images are stored in; None when they are not stored.
    beside
        Name of the image group that its labels lie beside; None when it gives no labels.
    prepared
        Whether it learns from the whole plate first.
    """

    name: str
    function: str
    module: str
    version: int
    library: LibraryCall | None
    packages: Mapping[str, str]
    files: Mapping[str, str]
    axes: Axes
    parameters: Mapping[str, ParameterValue]
    channels: tuple[str, ...] | None
    drops: tuple[str, ...]
    previous: int
    source: int
    wells: tuple[str, ...] | None
    keep: bool
    device: Device
    inputs: tuple[PlannedInput, ...]
    outputs: tuple[PlannedOutput, ...]
    gives_image: bool
    image: str | None
    beside: str | None
    prepared: bool

    @property
    def spec(self) -> FunctionSpec:
        """Find the function's declaration in this process.

        Raises
        ------
        CompileError
            If the function cannot be imported here, or is not the version that was planned.
        """
        if self.library is not None:
            return adapt(
                self.library.path,
                axes=self.axes,
                takes=self.library.takes,
                gives=self.library.gives,
            )
        spec = REGISTRY.get(self.function)
        if spec is None or spec.call.__module__ != self.module:
            try:
                spec = spec_of(getattr(importlib.import_module(self.module), self.function))
            except (ImportError, AttributeError, TypeError) as error:
                message = f"{self.name}: {self.module}.{self.function} cannot be had here: {error}"
                raise CompileError([message]) from error
        if spec.version != self.version:
            message = (
                f"{self.name}: {self.function} is version {spec.version} here, "
                f"but version {self.version} was planned"
            )
            raise CompileError([message])
        return spec

    def to_json(self) -> dict[str, Any]:
        """Give the step as JSON values."""
        return {
            "name": self.name,
            "function": self.function,
            "module": self.module,
            "version": self.version,
            "library": None if self.library is None else asdict(self.library),
            "packages": dict(self.packages),
            "files": dict(self.files),
            "axes": str(self.axes),
            "parameters": dict(self.parameters),
            "channels": None if self.channels is None else list(self.channels),
            "drops": list(self.drops),
            "previous": self.previous,
            "source": self.source,
            "wells": None if self.wells is None else list(self.wells),
            "keep": self.keep,
            "device": self.device,
            "inputs": [[part.parameter, part.step, part.output] for part in self.inputs],
            "outputs": [[part.name, str(part.kind), part.stored] for part in self.outputs],
            "gives_image": self.gives_image,
            "image": self.image,
            "beside": self.beside,
            "prepared": self.prepared,
        }

    def to_key(self) -> dict[str, Any]:
        """Give what decides the step's results, beside what goes into it, as JSON values."""
        value = self.to_json()
        for name in ("name", "previous", "source", "wells", "keep", "inputs", "prepared"):
            del value[name]
        # What was computed when there was no choice, in the processor, still stands.
        if self.device == "cpu":
            del value["device"]
        del value["files"]
        if self.files:
            # What they hold counts: the same ones may lie elsewhere.
            value["weights"] = sorted(self.files.values())
            for name, parameter in self.spec.parameters.items():
                if parameter.is_file:
                    value["parameters"].pop(name, None)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlannedStep:
        """Read back what `to_json` gave."""
        channels, library, wells = value["channels"], value["library"], value["wells"]
        return cls(
            name=value["name"],
            function=value["function"],
            module=value["module"],
            version=value["version"],
            library=None
            if library is None
            else LibraryCall(
                path=library["path"], takes=Kind(library["takes"]), gives=Kind(library["gives"])
            ),
            packages=value["packages"],
            files=value["files"],
            axes=Axes(value["axes"]),
            parameters={name: _thawed(part) for name, part in value["parameters"].items()},
            channels=None if channels is None else tuple(channels),
            drops=tuple(value["drops"]),
            previous=value["previous"],
            source=value["source"],
            wells=None if wells is None else tuple(wells),
            keep=value["keep"],
            device=value["device"],
            inputs=tuple(
                PlannedInput(parameter=parameter, step=step, output=output)
                for parameter, step, output in value["inputs"]
            ),
            outputs=tuple(
                PlannedOutput(name=name, kind=Kind(kind), stored=stored)
                for name, kind, stored in value["outputs"]
            ),
            gives_image=value["gives_image"],
            image=value["image"],
            beside=value["beside"],
            prepared=value["prepared"],
        )


def _thawed(value: Any) -> ParameterValue:
    """Turn JSON's lists back to the tuples that parameters are made of."""
    if isinstance(value, list):
        return tuple(_thawed(item) for item in value)
    if isinstance(value, dict):
        return {key: _thawed(item) for key, item in value.items()}
    plain: ParameterValue = value
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A pipeline that can run on a plate.

    Attributes
    ----------
    pipeline
        As it was given.
    source
        The same as Python source.
    index
        The plate, limited to the planes that are used. Those whose status is not ``ok`` are filled.
    plate
        What steps learn from: the usable planes of the same channels in all fields and wells, so
        that a well's results do not depend on which other wells are run with it.
    fillable
        The planes in all fields and wells that would be filled; none unless `missing` says so.
    fields
        The fields that were asked for; None for all.
    acquisition
        Which one is used, or ``all`` where all are, as cycles.
    steps
        Resolved steps, in order.
    wells
        Every well that must get a result, in plate order.
    refused
        Wells of these that cannot run, and why.
    channels
        Names of the channels, by channel number; no two alike.
    pixel_um
        Pixel size (y, x) in µm; None when unknown.
    missing
        What is done about missing planes: ``fail-well``, ``skip-group`` or ``fill=VALUE``.
    skipped
        Fields and time points of a well that are left out because planes of theirs are missing.
    run
        Settings that the run was given.
    settings
        What holds for each step by name of the setting, and which layer set it; by step name.
    notes
        Choices that were made and what to know about them, one sentence each.
    warnings
        What may make the results wrong, one sentence each; they go with the results.
    """

    pipeline: Pipeline
    source: str
    index: PlateIndex
    plate: PlateIndex
    fillable: PlateIndex
    fields: tuple[int, ...] | None
    acquisition: Acquisition
    steps: tuple[PlannedStep, ...]
    wells: tuple[str, ...]
    refused: Mapping[str, str]
    channels: tuple[str, ...]
    pixel_um: tuple[float, float] | None
    missing: str
    skipped: Mapping[str, frozenset[tuple[int, int]]]
    run: Settings
    settings: Mapping[str, Mapping[str, Setting]]
    notes: tuple[str, ...]
    warnings: tuple[str, ...] = ()

    @property
    def fill(self) -> int | float | None:
        """What planes that cannot be used are filled with; None when they are not."""
        return fill_value(self.missing)

    @property
    def filled(self) -> Mapping[str, tuple[FilledPlane, ...]]:
        """The planes that are filled, by well, as far as that is known before they are read."""
        return filled_of(self.index, self.channels, self.fill)

    @property
    def format_facts(self) -> tuple[str, str]:
        """Format of the plate and its version, which decide how planes are read."""
        return self.index.format, self.index.format_version
