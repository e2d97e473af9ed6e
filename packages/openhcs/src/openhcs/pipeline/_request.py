"""A request: a pipeline, a plate, what of it is used, and the settings of the run, as source."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from openhcs._errors import CompileError, ParameterError, SourceError
from openhcs.codegen import Call, Constructor, Name, render
from openhcs.functions import LIBRARIES, Libraries
from openhcs.pipeline._compile import compile_pipeline
from openhcs.pipeline._default import default_pipeline, nuclear_doubts
from openhcs.pipeline._files import with_files
from openhcs.pipeline._pipeline import Pipeline
from openhcs.pipeline._settings import Settings
from openhcs.pipeline._source import evaluated, read_text, written
from openhcs.plates import (
    Description,
    DuplicatePolicy,
    open_plate,
    parse_wells,
    read_file_table,
    read_platemap,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from openhcs.codegen import SourceValue
    from openhcs.pipeline._plan import Acquisition, Plan
    from openhcs.plates import PlateIndex

__all__ = ["RunRequest", "load_request"]

_TARGET = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """What is to be run on what: all that it takes to make a plan, and to make it again.

    Parameters
    ----------
    plate
        The plate's folder.
    pipeline
        The pipeline; None for the default one of the plate.
    format, pattern, files, plate_size, platemap
        How the plate is read, where it does not say so itself: name of its format, a pattern of
        its files' names, a table of its files, rows and columns, a table of conditions.
    duplicates, include_unlisted
        Which of several files for one plane is used, ``newest`` or ``first``, and whether images
        that the plate's index does not list are: as in `openhcs.plates.open_plate`; neither by
        default.
    wells
        Such as ``"A01,B02-B05,C*"``; all by default.
    fields
        Numbers from 0; all by default.
    channels
        Names; all by default.
    acquisition
        Which one of a plate that was taken several times; ``all`` for all of them as cycles.
    settings
        Settings of the run.

    Raises
    ------
    ParameterError
        If a value is of another type.

    Examples
    --------
    >>> from openhcs.functions import project_max
    >>> from openhcs.pipeline import Step
    >>> print(RunRequest(plate="PLATE", pipeline=Pipeline(Step(project_max))).to_source(), end="")
    from openhcs import Pipeline, RunRequest, Step
    from openhcs.functions import project_max
    <BLANKLINE>
    request = RunRequest(
        plate="PLATE",
        pipeline=Pipeline(
            Step(project_max),
        ),
    )
    """

    plate: str
    pipeline: Pipeline | None = None
    format: str | None = None
    pattern: str | None = None
    files: str | None = None
    plate_size: tuple[int, int] | None = None
    platemap: str | None = None
    duplicates: DuplicatePolicy | None = None
    include_unlisted: bool | None = None
    wells: str | None = None
    fields: tuple[int, ...] | None = None
    channels: tuple[str, ...] | None = None
    acquisition: Acquisition | None = None
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        """Refuse what could not be used, and take lists for tuples."""
        if not isinstance(self.plate, str) or not self.plate:
            _refuse("plate", "the name of a folder", self.plate)
        if not isinstance(self.pipeline, Pipeline | None):
            _refuse("pipeline", "a Pipeline", self.pipeline)
        if not isinstance(self.settings, Settings):
            _refuse("settings", "Settings", self.settings)
        for name in ("format", "pattern", "files", "platemap", "wells"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str) and value):
                _refuse(name, "a text", value)
        for name, kind in (("plate_size", int), ("fields", int), ("channels", str)):
            value = getattr(self, name)
            if value is None:
                continue
            if not isinstance(value, tuple | list) or not all(type(v) is kind for v in value):
                _refuse(name, f"a tuple of {kind.__name__}", value)
            object.__setattr__(self, name, tuple(value))
        if self.plate_size is not None and len(self.plate_size) != 2:
            _refuse("plate_size", "rows and columns", self.plate_size)
        policies = (None, *get_args(DuplicatePolicy))
        if self.duplicates not in policies:
            _refuse("duplicates", "one of 'error', 'newest' and 'first'", self.duplicates)
        if self.include_unlisted is not None and type(self.include_unlisted) is not bool:
            _refuse("include_unlisted", "True or False", self.include_unlisted)
        if self.acquisition not in (None, "all") and type(self.acquisition) is not int:
            _refuse("acquisition", "a number from 0, or 'all'", self.acquisition)

    def index(self) -> PlateIndex:
        """Open the plate as the request says.

        Raises
        ------
        PlateError
            If it cannot be opened so.
        OSError
            If a table that is named cannot be read.
        """
        described = None
        if self.pattern or self.files or self.plate_size:
            described = Description(
                pattern=self.pattern or "",
                table=None if self.files is None else read_file_table(Path(self.files)),
                plate_size=self.plate_size,
            )
        platemap = None if self.platemap is None else read_platemap(self.platemap)
        return open_plate(
            self.plate,
            format=self.format,
            described=described,
            platemap=platemap,
            duplicates=self.duplicates or "error",
            include_unlisted=bool(self.include_unlisted),
        )

    def plan(self, index: PlateIndex | None = None) -> Plan:
        """Compile the pipeline against the plate.

        Parameters
        ----------
        index
            The plate, where it is open already.

        Raises
        ------
        PlateError, OSError
            As `index`.
        CompileError
            If the pipeline cannot run on it, or a selection names no well of the plate.
        """
        index = self.index() if index is None else index
        pipeline = self.pipeline
        warnings: tuple[str, ...] = ()
        if pipeline is None:
            pipeline, warnings = default_pipeline(index), nuclear_doubts(index)
        try:
            wells = None if self.wells is None else parse_wells(self.wells, index.wells)
        except ValueError as error:
            raise CompileError([f"wells={self.wells!r}: {error}"]) from error
        return compile_pipeline(
            pipeline,
            index,
            wells=wells,
            fields=self.fields,
            channels=self.channels,
            acquisition=self.acquisition,
            warnings=warnings,
            **self.settings.made,
        )

    def with_files(self, rename: Callable[[str], str]) -> RunRequest:
        """Give the same request with other names of the plate and of the files that steps read.

        Parameters
        ----------
        rename
            Given each name; gives the one to put in its place. The tables `files` and `platemap`
            keep theirs.
        """
        plate = rename(self.plate)
        pipeline = None if self.pipeline is None else with_files(self.pipeline, rename)
        return replace(self, plate=plate, pipeline=pipeline)

    def to_source(self) -> str:
        """Write the request as Python source that `from_source` reads back."""
        keywords: dict[str, SourceValue] = {}
        for part in fields(self):
            value = getattr(self, part.name)
            if isinstance(value, Pipeline):
                keywords[part.name] = written(value)
            elif part.name == "settings":
                if value.made:
                    made: dict[str, Any] = dict(value.made)
                    keywords[part.name] = Call(Name("openhcs", "Settings"), (), made)
            elif value is not None:
                keywords[part.name] = value
        return render(_TARGET, Call(Name("openhcs", "RunRequest"), (), keywords, spread=True))

    @classmethod
    def from_source(
        cls,
        source: str,
        filename: str = "<request>",
        *,
        functions: Iterable[Callable[..., Any]] = (),
        libraries: Libraries = LIBRARIES,
    ) -> RunRequest:
        """Read a request from Python source, without executing it.

        Parameters
        ----------
        source
            Text that assigns a RunRequest to ``request``.
        filename, functions, libraries
            As in `openhcs.pipeline.from_source`.

        Raises
        ------
        SourceError
            If the text says anything but a request; the message has a line for each problem, with
            file, line and column.
        """
        further = {"RunRequest": Constructor(_request), "Settings": Constructor(_settings)}
        value = evaluated(source, filename, _TARGET, further, functions, libraries)
        if not isinstance(value, cls):
            message = f"{filename}:1:1: {_TARGET!r} is no RunRequest"
            raise SourceError(message)
        return value


def load_request(
    path: str | Path,
    *,
    functions: Iterable[Callable[..., Any]] = (),
    libraries: Libraries = LIBRARIES,
) -> RunRequest:
    """Read a request from a file of Python source, without executing it.

    Parameters
    ----------
    path
        The file.
    functions, libraries
        As in `openhcs.pipeline.from_source`.

    Raises
    ------
    SourceError
        If the file is not UTF-8 text or says anything but a request.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    text = read_text(path)
    return RunRequest.from_source(text, str(path), functions=functions, libraries=libraries)


def _request(*arguments: object, **keywords: Any) -> RunRequest:
    _check(arguments, keywords, RunRequest, "a request")
    if "plate" not in keywords:
        message = "a request needs plate=..."
        raise ParameterError(message)
    return RunRequest(**keywords)


def _settings(*arguments: object, **keywords: Any) -> Settings:
    _check(arguments, keywords, Settings, "settings")
    return Settings(**keywords)


def _check(arguments: tuple[object, ...], keywords: dict[str, Any], made: Any, what: str) -> None:
    known = [part.name for part in fields(made)]
    if arguments:
        message = f"{what} takes everything as name=value"
        raise ParameterError(message, 0)
    for name in keywords:
        if name not in known:
            message = f"{what} has no {name!r}; there are {', '.join(known)}"
            raise ParameterError(message, name)


def _refuse(name: str, wanted: str, value: object) -> None:
    message = f"{name} of a request is {wanted}, not {value!r}"
    raise ParameterError(message, name)
