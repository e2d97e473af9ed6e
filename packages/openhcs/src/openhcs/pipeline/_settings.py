"""Settings that a run, a pipeline, a part of it or a step may make; what is unset is inherited."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from openhcs._errors import ParameterError
from openhcs.functions import Device
from openhcs.pipeline._checks import ParameterChecks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "DEFAULTS",
    "SKIP_GROUP",
    "MissingPlanes",
    "Otherwise",
    "Setting",
    "Settings",
    "fill_value",
    "resolve",
]

MissingPlanes: TypeAlias = str
"""What is done about a well whose planes are not all there: ``fail-well``, or ``skip-group``, which
goes on without the field and time point that they belong to, or ``fill=VALUE``, such as ``fill=0``,
which has every pixel of these planes be that value."""

SKIP_GROUP = "skip-group"
_POLICIES = ("fail-well", SKIP_GROUP, "fill=VALUE")
_FILL = re.compile(r"fill=([+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?)", re.ASCII | re.IGNORECASE)

Otherwise: TypeAlias = Literal["pass", "drop", "error"]
"""What becomes of channels that a step which changes images does not work on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one layer sets; None leaves it to the layer around.

    Parameters
    ----------
    keep
        Whether the images of each step are stored in the result, also where later steps go on from
        them.
    otherwise
        What becomes of the channels that a step does not work on, when it changes images:
        ``"pass"`` hands them on as they are, ``"drop"`` leaves them out from here on, ``"error"``
        says that there must be none.
    missing
        What is done about missing planes: ``"fail-well"``, ``"skip-group"``, or ``"fill=0"`` with
        any other number in place of 0. Of a run and a whole pipeline alone.
    pixel_um
        Pixel size (y, x) in µm, in place of what the plate says. Of a run and a whole pipeline
        alone.
    device
        Where steps compute: ``"cpu"``, or ``"gpu"`` for those whose functions can; the others stay
        in the processor.

    Raises
    ------
    ParameterError
        If a value is none that can be chosen.
    """

    keep: bool | None = None
    otherwise: Otherwise | None = None
    missing: MissingPlanes | None = None
    pixel_um: tuple[float, float] | None = None
    device: Device | None = None

    def __post_init__(self) -> None:
        checks = ParameterChecks()
        if not (self.keep is None or isinstance(self.keep, bool)):
            message = f"keep is True or False, not {self.keep!r}"
            checks.note(ParameterError(message, "keep"))
        checks.of(_check_choice, "otherwise", self.otherwise, get_args(Otherwise))
        object.__setattr__(self, "missing", checks.of(_policy, self.missing))
        if self.pixel_um is not None:
            object.__setattr__(self, "pixel_um", checks.of(_pair, self.pixel_um))
        checks.of(_check_choice, "device", self.device, get_args(Device))
        checks.over()

    @property
    def made(self) -> Mapping[str, Any]:
        """What is set, by name."""
        values = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {name: value for name, value in values if value is not None}


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and the layer that set it: ``default``, ``run``, ``pipeline``, ``step``..."""

    value: Any
    origin: str


def resolve(layers: Sequence[tuple[str, Settings]]) -> Mapping[str, Setting]:
    """Give what holds, and whence.

    Parameters
    ----------
    layers
        Name and settings of each layer, from the outermost to the step itself; the later one
        counts.

    Returns
    -------
    Mapping
        Every setting by name; a value of None comes with the origin ``default``.
    """
    names = [part.name for part in fields(Settings)]
    found = {name: Setting(getattr(DEFAULTS, name), "default") for name in names}
    for origin, settings in layers:
        found |= {name: Setting(value, origin) for name, value in settings.made.items()}
    return found


def fill_value(missing: str) -> int | float | None:
    """Give the value that planes are filled with; None where they are not filled."""
    found = _FILL.fullmatch(missing)
    if found is None:
        return None
    text = found.group(1)
    try:
        return int(text)
    except ValueError:
        value = float(text)
        return int(value) if abs(value) < 2**53 and value.is_integer() else value


def _policy(missing: object) -> str | None:
    """Give the policy as it is written, so that ``fill=0.0`` is no other than ``fill=0``."""
    if isinstance(missing, str) and len(missing) < 64:
        value = fill_value(missing)
        if value is not None and math.isfinite(value):
            return f"fill={value!r}"
    if missing is None or missing in _POLICIES[:2]:
        return str(missing) if missing is not None else None
    _check_choice("missing", None if missing == _POLICIES[2] else missing, _POLICIES)
    message = "missing='fill=VALUE': give the number in place of VALUE, such as 'fill=0'"
    raise ParameterError(message, "missing")


def _check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    if value is None or value in choices:
        return
    close = difflib.get_close_matches(str(value), choices, n=1)
    advice = f"; did you mean {close[0]!r}?" if close else ""
    *others, last = map(repr, choices)
    message = f"{name} is {', '.join(others)} or {last}, not {value!r}{advice}"
    raise ParameterError(message, name)


def _pair(value: object) -> tuple[float, float]:
    if (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(isinstance(part, int | float) and 0 < part < float("inf") for part in value)
    ):
        return float(value[0]), float(value[1])
    message = f"pixel_um is two lengths (y, x) in µm above 0, not {value!r}"
    raise ParameterError(message, "pixel_um")


DEFAULTS = Settings(keep=False, missing="fail-well", device="cpu")
"""What holds where no layer says anything. What becomes of other channels has to be said."""
