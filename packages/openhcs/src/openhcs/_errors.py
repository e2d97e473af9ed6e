"""Errors of openhcs; each leaf is also the builtin exception that it stands for.

::

    OpenHCSError
    ├── PlateError
    │   ├── FormatNotRecognisedError   ValueError    no reader knows this folder
    │   ├── AmbiguousFormatError       ValueError    several readers claim it
    │   ├── DescriptionError           ValueError    what a person says of a folder does not fit it
    │   └── PlaneUnreadableError       OSError       the pixels of one plane cannot be had
    ├── PipelineError
    │   ├── SourceError                ValueError    pipeline text that may not be evaluated
    │   ├── ParameterError             TypeError     a step is given what its function does not take
    │   ├── CompileError               ValueError    a pipeline that cannot run on this plate
    │   └── StepError                  RuntimeError  a step failed on a group of planes
    ├── RunError
    │   ├── ResultFolderError          OSError       the result folder cannot be used
    │   │   └── ResultFolderInUseError                 another run or fetch works in it
    │   ├── DeviceError                RuntimeError  steps are to compute on a GPU that is not there
    │   ├── ClusterError               RuntimeError  a cluster is not there, or cannot do the run
    │   ├── ServerError                ConnectionError  a server is away, or a run on it was lost
    │   └── WorkerLostError            RuntimeError  a worker process ended without a result
    ├── MisuseError                    ValueError    a command is not used as it can be
    └── ViewerError                    ConnectionError
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AmbiguousFormatError",
    "ClusterError",
    "CompileError",
    "DescriptionError",
    "DeviceError",
    "FormatNotRecognisedError",
    "MisuseError",
    "OpenHCSError",
    "ParameterError",
    "PipelineError",
    "PlaneDamagedError",
    "PlaneUnreadableError",
    "PlateError",
    "ResultFolderError",
    "ResultFolderInUseError",
    "RunError",
    "ServerError",
    "SourceError",
    "StepError",
    "ViewerError",
    "WorkerLostError",
]


class OpenHCSError(Exception):
    """Root of all errors that openhcs raises on purpose."""


class PlateError(OpenHCSError):
    """A plate cannot be used as it is."""


class FormatNotRecognisedError(PlateError, ValueError):
    """No reader recognises the folder; the message says what each one lacked."""


class AmbiguousFormatError(PlateError, ValueError):
    """Several readers recognise the folder; the message lists them."""


class DescriptionError(PlateError, ValueError):
    """What a person says about a folder cannot be understood, or does not fit it; says where."""


class PlaneUnreadableError(PlateError, OSError):
    """The pixels of one plane cannot be read; the message names the file."""


class PlaneDamagedError(PlaneUnreadableError):
    """The file of a plane can be opened, and does not hold the pixels of the plane whole."""


class PipelineError(OpenHCSError):
    """A pipeline is not usable."""


class SourceError(PipelineError, ValueError):
    """Pipeline text that the evaluator refuses; the message has file, line and advice."""


class ParameterError(PipelineError, TypeError):
    """A step or pipeline is given something that it does not take.

    Parameters
    ----------
    message
        What was expected, what was found, what to do.
    argument
        Which argument: its keyword, its position from 0, or None for the call as a whole.
    """

    def __init__(self, message: str, argument: str | int | None = None) -> None:
        super().__init__(message)
        self.argument = argument
        self.others: tuple[ParameterError, ...] = ()
        """What else is wrong with the same call."""


class CompileError(PipelineError, ValueError):
    """A pipeline that cannot run on this plate; the message lists every problem found.

    Parameters
    ----------
    problems
        One sentence for each.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(f"{heading}:" + "".join(f"\n- {problem}" for problem in self.problems))


class StepError(PipelineError, RuntimeError):
    """A step's function failed or gave something else than it declares; says for which group.

    Parameters
    ----------
    message
        What failed, and why.
    step
        Name of the step.
    """

    def __init__(self, message: str, step: str | None = None) -> None:
        super().__init__(message)
        self.step = step


class RunError(OpenHCSError):
    """A run cannot start or go on."""


class ResultFolderError(RunError, OSError):
    """The result folder cannot be used: in use, not writable, or not ours."""


class ResultFolderInUseError(ResultFolderError):
    """Another run or fetch works in the result folder."""


class DeviceError(RunError, RuntimeError):
    """Steps are to compute on a GPU, and there is none; says what was looked for."""


class ServerError(RunError, ConnectionError):
    """A server cannot be reached, or a run on it was lost; says what to do."""


class ClusterError(RunError, RuntimeError):
    """A cluster cannot be reached, or its workers cannot do a run; says which one lacks what."""


class WorkerLostError(RunError, RuntimeError):
    """A worker process ended without handing back a result."""


class MisuseError(OpenHCSError, ValueError):
    """A command is not used as it can be; the message says how."""


class ViewerError(OpenHCSError, ConnectionError):
    """A viewer cannot be started, reached or shown to."""
