"""Run: every case that applies, and a report; and the application that the cases expect."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmqruntime.session import Applied, Baseline, StateRejectedError
from zmqruntime.testing.conformance._cases1 import CASES_1
from zmqruntime.testing.conformance._cases2 import CASES_2
from zmqruntime.testing.conformance._subject import Profile, Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zmqruntime.session import Change, Command, SessionServer
    from zmqruntime.testing.conformance._case import Case

__all__ = ["CASES", "REFERENCE_PROFILE", "Finding", "ReferenceScene", "run_cases"]

CASES: tuple[Case, ...] = (*CASES_1, *CASES_2)
"""Every case of both protocols."""

REFERENCE_PROFILE = Profile(
    property=("layer", "layer-0", "gamma"),
    values=(1.25, 1.5),
    bad_value=-2.0,
    command="conformance.echo",
    arguments={"text": "well A01"},
    result={"text": "well A01"},
)
"""What `ReferenceScene` lets a client do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What became of a case.

    Attributes
    ----------
    case
        Which.
    verdict
        ``passed``, ``failed`` or ``left out``.
    message
        Why it failed, or what it lacked.
    seconds
        How long it took.
    """

    case: Case
    verdict: str
    message: str = ""
    seconds: float = 0.0


def run_cases(subject: Subject, cases: Sequence[Case] = CASES) -> list[Finding]:
    """Try every case.

    Parameters
    ----------
    subject
        Server under test.
    cases
        Which.

    Returns
    -------
    list
        One finding per case, in their order.
    """
    findings = []
    for case in cases:
        if not case.applies(subject):
            missing = f"the subject has no {case.needs}"
            findings.append(Finding(case=case, verdict="left out", message=missing))
            continue
        began = time.monotonic()
        verdict, message = "passed", ""
        try:
            case.run(subject)
        except Exception as error:  # noqa: BLE001 - a server may say what makes a case stumble
            verdict, message = "failed", f"{type(error).__name__}: {error}"
        seconds = time.monotonic() - began
        findings.append(Finding(case=case, verdict=verdict, message=message, seconds=seconds))
    return findings


class ReferenceScene:
    """An application with one layer, which has what the cases need."""

    def __init__(self) -> None:
        self.gamma = 1.0
        self.step = 0

    def baseline(self) -> Baseline:
        """Return everything as it is now."""
        layer = {
            "layer_id": "layer-0",
            "layer_type": "image",
            "name": "Sample",
            "controls": {"gamma": self.gamma},
        }
        return Baseline(
            layers=[layer], current_step=(self.step, 0, 0), ndisplay=2, volume_mode="slice"
        )

    def add_to(self, sessions: SessionServer) -> None:
        """Add reducers and commands to a server."""
        sessions.reduce("layer", self._set_layer)
        sessions.reduce("dims", self._set_dims)
        sessions.reduce("camera", lambda change: Applied(value=change.value))
        sessions.reduce("view", lambda change: Applied(value=change.value))
        sessions.command("conformance.echo", _echo)

    def _set_layer(self, change: Change) -> Applied:
        if change.target != "layer-0" or change.key != "gamma":
            raise StateRejectedError("state.unsupported", f"no {change.target}/{change.key} here")
        if not isinstance(change.value, int | float) or change.value <= 0:
            raise StateRejectedError("state.bad_value", "gamma must be positive")
        self.gamma = float(change.value)
        return Applied(value=self.gamma)

    def _set_dims(self, change: Change) -> Applied:
        if not isinstance(change.value, int) or change.value < 0:
            raise StateRejectedError("state.bad_value", "a step is a whole number, at least 0")
        self.step = min(change.value, 679)
        fields: dict[str, Any] = {"axis_index": 0, "current_step": [self.step, 0, 0]}
        return Applied(value=self.step, fields=fields)


def _echo(command: Command) -> dict[str, Any]:
    return dict(command.kwargs)
