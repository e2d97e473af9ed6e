"""Functions that a pipeline may name, and what each of them declares.

A function is plain: arrays in, arrays and tables out. Its declaration says which axes one call
consumes; the framework maps it over every other axis, so that a function never sees more than it
asked for.

========================  =====================================  ==============================
axes                      first argument                         consumed axes
========================  =====================================  ==============================
``Axes.PLANE``            ``PlaneArray`` (y, x)                  none
``Axes.ZSTACK``           ``Stack`` of planes                    z
``Axes.TIME``             ``Stack`` of planes                    t
``Axes.CHANNELS``         ``ChannelPlanes``                      channel
``Axes.FIELDS``           ``Sequence[Tile]``                     field
``Axes.CHANNEL_FIELDS``   ``ChannelTiles``                       channel and field
========================  =====================================  ==============================
"""

from __future__ import annotations

import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

from openhcs.functions._parameter import parameters_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from openhcs.functions._parameter import ParameterSpec

__all__ = [
    "Axes",
    "FunctionSpec",
    "Kind",
    "LibraryCall",
    "Output",
    "Preparation",
    "Prepared",
    "Registry",
    "Weights",
    "function",
    "spec_of",
]

P = ParamSpec("P")
R = TypeVar("R")


class Axes(StrEnum):
    """The axes that one call of a function consumes."""

    PLANE = "plane"
    ZSTACK = "zstack"
    TIME = "time"
    CHANNELS = "channels"
    FIELDS = "fields"
    CHANNEL_FIELDS = "channel_fields"

    @property
    def consumed(self) -> frozenset[str]:
        """Names of the components that one call sees all members of."""
        return _CONSUMED[self]


_CONSUMED = {
    Axes.PLANE: frozenset[str](),
    Axes.ZSTACK: frozenset({"z"}),
    Axes.TIME: frozenset({"t"}),
    Axes.CHANNELS: frozenset({"channel"}),
    Axes.FIELDS: frozenset({"field"}),
    Axes.CHANNEL_FIELDS: frozenset({"channel", "field"}),
}


class Kind(StrEnum):
    """What an output is, and so where it is kept."""

    IMAGE = "image"
    """An array (y, x), or a mapping of arrays by channel name; goes on to the next step."""
    LABELS = "labels"
    """An integer array (y, x): 0 is background, each object has a number of its own."""
    TABLE = "table"
    """Columns of equal length: any number of rows for each group."""
    RECORD = "record"
    """One mapping of scalars for each group: one row."""


@dataclass(frozen=True, slots=True)
class Output:
    """A named result of a function."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a preparation found, for one channel.

    Attributes
    ----------
    arrays
        Handed to the function as its keyword ``prepared``.
    note
        Scalars and text for the run record and the report: where it came from, how sure it is.
    """

    arrays: Mapping[str, NDArray[Any]]
    note: Mapping[str, Any] = field(default_factory=dict)


class Preparation(Protocol):
    """What a function has to learn from the whole plate, once per channel, before any well."""

    def wanted(
        self,
        parameters: Mapping[str, Any],
        *,
        vendor: bool,
        vendor_dark: float | None = None,
        available: int,
    ) -> int:
        """Say how many planes of a channel to summarise.

        Called when a plan is compiled, in the main process.

        Parameters
        ----------
        parameters
            The step's parameters, defaults filled in.
        vendor
            Whether the plate brings a profile of its own for this channel.
        vendor_dark
            Counts of a pixel that sees no light, where the plate tells them.
        available
            How many fields the plate has for this channel.
        """
        ...

    def reads(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the files beside the plate that `combine` will read; what they hold is looked at.

        Called when a plan is compiled and when it is run, in the main process.
        """
        ...

    def summarise(
        self, plane: NDArray[Any], parameters: Mapping[str, Any]
    ) -> Mapping[str, NDArray[Any]]:
        """Reduce one plane (y, x) to something small. Called in worker processes."""
        ...

    def combine(
        self,
        summaries: Sequence[Mapping[str, NDArray[Any]]],
        parameters: Mapping[str, Any],
        *,
        shape: tuple[int, int],
        vendor: NDArray[Any] | None,
        vendor_dark: float | None = None,
    ) -> Prepared:
        """Make the result of one channel. Called once per channel, in a worker process.

        Parameters
        ----------
        summaries
            What `summarise` gave, in the order of wells and fields.
        parameters
            The step's parameters, defaults filled in.
        shape
            (y, x) of the channel's planes.
        vendor
            The plate's own profile, shape (y, x), mean about 1; None when there is none.
        vendor_dark
            As for `wanted`.
        """
        ...


class Weights(Protocol):
    """The trained network that a function computes with: files, and much to load."""

    def files(self, parameters: Mapping[str, Any]) -> tuple[str, ...]:
        """Name the files that the function will load; what they hold decides its results.

        Called when a plan is compiled, and by workers on other computers.

        Raises
        ------
        ValueError
            If they are not there or cannot be weights; says where they were looked for, and how to
            get them. Nothing is downloaded.
        """
        ...

    def holds_bytes(self, parameters: Mapping[str, Any]) -> int:
        """Say what a process holds for the function, beside images, once it has been called."""
        ...

    def stand_in(self, argument: Any, parameters: Mapping[str, Any]) -> Any:
        """Give for tiny images something of the kind that the function gives, without the network.

        Called when a plan is compiled and estimated, in place of the function.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryCall:
    """How a function of a library, which knows nothing of pipelines, was made a step.

    Attributes
    ----------
    path
        Module and name with a dot between, from which the function is imported.
    takes
        ``image`` or ``labels``: what the first argument is.
    gives
        What the function returns.
    """

    path: str
    takes: Kind
    gives: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSpec:
    """The declaration of a registered function.

    Attributes
    ----------
    name
        The name that pipelines use.
    call
        The function itself.
    axes
        What one call consumes.
    outputs
        Named results. A function with one output may return it bare; with several it returns a
        dataclass or a mapping with these names.
    collapses
        Consumed axes that the outputs no longer have. ``measure`` functions collapse all of them;
        ``stitch`` consumes channel and field and collapses field alone.
    inputs
        Keyword parameters filled with a named output of an earlier step: parameter name to
        (kind, output name or None for the latest of that kind). One with a default is left at it
        where no earlier step gives such an output. A function that consumes z or t gets labels
        that were made for each place along that axis as a ``Stack`` of them, and tables and
        records as a tuple.
    needs
        Facts handed over as keywords of the same name: ``pixel_um`` of the plate; ``device``,
        where to compute, for a function that moves its data there itself; and ``guide``: what lies
        in the middle of the stack, the same for every z of a time point, and empty for the middle
        itself. One that consumes fields gets the tiles of the channels that its parameter
        ``reference`` names, else of the first; one that consumes channels alone gets the planes of
        all of them.
    preparation
        What must be learned from the whole plate first; handed over as keyword ``prepared``.
    version
        Raised when results change; enters the key under which results are reused.
    requires
        Packages that have to be installed beside openhcs, by the names they are imported by.
    extra
        Extra of openhcs that installs them; empty when they are installed by their own names.
    gpu
        Package through which the function can compute on a GPU: ``cupy``, and it is handed arrays
        that lie there and may give such back, or another one, and it is told by ``device``. Empty
        where it computes in the processor alone.
    weights
        The trained network that it computes with; None without one.
    library
        Where the function comes from when it was adapted from a library; None when it declares
        itself.
    """

    name: str
    call: Callable[..., Any]
    axes: Axes
    outputs: tuple[Output, ...]
    collapses: frozenset[str]
    inputs: Mapping[str, tuple[Kind, str | None]]
    needs: frozenset[str]
    preparation: Preparation | None
    version: int
    requires: tuple[str, ...] = ()
    extra: str = ""
    gpu: str = ""
    weights: Weights | None = None
    library: LibraryCall | None = None

    @property
    def parameters(self) -> Mapping[str, ParameterSpec]:
        """Parameters that a pipeline may set, by name: all but the first and the filled ones."""
        return parameters_of(self.call, frozenset({*self.inputs, *self.needs, "prepared"}))

    @property
    def missing(self) -> tuple[str, ...]:
        """Required packages that are not installed here."""
        return tuple(name for name in self.requires if importlib.util.find_spec(name) is None)

    @property
    def optional_inputs(self) -> frozenset[str]:
        """Inputs that the function can do without."""
        parameters = inspect.signature(self.call).parameters
        return frozenset(
            name for name in self.inputs if parameters[name].default is not inspect.Parameter.empty
        )

    @property
    def summary(self) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(self.call) or "").partition("\n")[0]


def function(
    *,
    axes: Axes = Axes.PLANE,
    outputs: tuple[Output, ...] = (Output("image", Kind.IMAGE),),
    collapses: frozenset[str] | None = None,
    inputs: Mapping[str, tuple[Kind, str | None]] | None = None,
    needs: frozenset[str] = frozenset(),
    preparation: Preparation | None = None,
    version: int = 1,
    requires: tuple[str, ...] = (),
    extra: str = "",
    gpu: str = "",
    weights: Weights | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare what a function consumes and gives; the function itself is left as it is.

    Parameters
    ----------
    axes, outputs, inputs, needs, preparation, version, requires, extra, gpu, weights
        See `FunctionSpec`.
    collapses
        Axes missing from the outputs; all consumed ones by default.
    """

    def declare(call: Callable[P, R]) -> Callable[P, R]:
        spec = FunctionSpec(
            name=call.__name__,
            call=call,
            axes=axes,
            outputs=outputs,
            collapses=axes.consumed if collapses is None else collapses,
            inputs=inputs or {},
            needs=needs,
            preparation=preparation,
            version=version,
            requires=requires,
            extra=extra,
            gpu=gpu,
            weights=weights,
        )
        call.__openhcs__ = spec  # type: ignore[attr-defined]  # read back by spec_of alone
        return call

    return declare


def spec_of(call: Callable[..., Any]) -> FunctionSpec:
    """Give the declaration of a function.

    Raises
    ------
    TypeError
        If the function was never declared with `function`.
    """
    spec = getattr(call, "__openhcs__", None)
    if not isinstance(spec, FunctionSpec):
        message = f"{call!r} declares no axes: decorate it with openhcs.functions.function"
        raise TypeError(message)
    return spec


class Registry(Mapping[str, FunctionSpec]):
    """An explicit, unchanging list of functions by name.

    Parameters
    ----------
    calls
        Declared functions; two of one name are refused.
    """

    def __init__(self, calls: Sequence[Callable[..., Any]]) -> None:
        specs = [spec_of(call) for call in calls]
        self._specs = {spec.name: spec for spec in sorted(specs, key=lambda spec: spec.name)}
        if len(self._specs) != len(specs):
            message = "two functions share one name"
            raise ValueError(message)

    def __getitem__(self, name: str) -> FunctionSpec:
        return self._specs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._specs)

    def __len__(self) -> int:
        return len(self._specs)
