"""What a run of a plan would do: which wells are finished, and which steps would be done again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from openhcs.execution._folder import ResultFolder
from openhcs.execution._plate import check_plate
from openhcs.execution._preparation import learning_of
from openhcs.execution._resume import well_states
from openhcs.pipeline import PLATE, steps_in, well_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from openhcs.execution._resume import Resume
    from openhcs.pipeline import Plan

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run would do.

    Attributes
    ----------
    finished
        Wells that are done already and would be taken over whole.
    to_do
        Steps that would be done, by well, for the others that can run.
    new
        Wells of `to_do` that have no images yet: those of the others are replaced, and take no
        more room than they did.
    planes, read_bytes
        Planes of the plate that these wells would read, and the size of their files; none of
        those whose steps go on from stored images alone.
    learned
        Steps that learn from the whole plate, and whether what they learned still stands.
    """

    finished: tuple[str, ...]
    to_do: Mapping[str, tuple[str, ...]]
    new: tuple[str, ...]
    planes: int
    read_bytes: int
    learned: Mapping[str, bool]

    @property
    def steps(self) -> Mapping[tuple[str, ...], tuple[str, ...]]:
        """The wells in which the same steps would be done, by these steps."""
        alike: dict[tuple[str, ...], list[str]] = {}
        for well, steps in self.to_do.items():
            alike.setdefault(steps, []).append(well)
        return {steps: tuple(wells) for steps, wells in alike.items()}


def forecast(plan: Plan, out: str | Path, *, resume: Resume = True) -> Forecast:
    """Say what a run would do, looking at the results that are there.

    Parameters
    ----------
    plan
        From `openhcs.pipeline.compile_pipeline`.
    out
        The result folder; it need not exist, and is not changed.
    resume
        Whether the run takes over what is finished and unchanged, or of which runs.

    Raises
    ------
    ResultFolderError
        If it holds the results of another plate, or other things, or lies in the plate's folder.
    """
    folder = ResultFolder(out)
    folder.check(plan.index.root)
    wells = [well for well in plan.wells if well not in plan.refused]
    everything = {well: tuple(step.name for step in steps_in(plan.steps, well)) for well in wells}
    learnings = learning_of(plan)
    if not folder.root.is_dir():
        learned = {learning.step.name: False for learning in learnings}
        return _forecast(plan, (), everything, tuple(wells), learned)
    check_plate(plan, folder)
    keys = {learning.step.name: learning.found(folder, resume) for learning in learnings}
    learned = {name: key is not None for name, key in keys.items()}
    # A key that is still to be found matches none: what depends on it would be done again.
    prepared = {name: key or "" for name, key in keys.items()}
    finished: list[str] = []
    to_do: dict[str, tuple[str, ...]] = {}
    for state in well_states(plan, folder, well_keys(plan), prepared, resume=resume):
        if state.record is not None:
            finished.append(state.well)
        else:
            to_do[state.well] = tuple(
                name for name in everything[state.well] if name not in state.reused
            )
    new = tuple(well for well in to_do if not (folder.read_record(well) or {}).get("images"))
    return _forecast(plan, tuple(finished), to_do, new, learned)


def _forecast(
    plan: Plan,
    finished: tuple[str, ...],
    to_do: Mapping[str, tuple[str, ...]],
    new: tuple[str, ...],
    learned: Mapping[str, bool],
) -> Forecast:
    reading = {steps: _reads_planes(plan, steps) for steps in set(to_do.values())}
    planes = plan.index.select(wells=[well for well in to_do if reading[to_do[well]]], kind=None)
    return Forecast(
        finished=finished,
        to_do=to_do,
        new=new,
        planes=len(planes),
        read_bytes=int(planes.column("file_size").clip(min=0).sum()),
        learned=learned,
    )


def _reads_planes(plan: Plan, to_do: Collection[str]) -> bool:
    """Say whether steps need planes of the plate, or go on from what earlier ones have stored."""

    def needs(position: int) -> bool:
        if position == PLATE:
            return True
        giver = plan.steps[position]
        stands = giver.image is not None and giver.name not in to_do
        return not stands and needs(giver.source)

    return any(needs(step.source) for step in plan.steps if step.name in to_do)
