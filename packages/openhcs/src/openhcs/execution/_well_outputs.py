"""What one well gives: collected while its steps run, and put in place together at the end."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from openhcs.execution._image_group import is_of
from openhcs.execution._sums import WellSums, sum_up
from openhcs.execution._tables import read_group, read_groups, write_outputs
from openhcs.execution._well_images import WellImages
from openhcs.execution._well_labels import WellLabels
from openhcs.functions import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Mapping, Sequence

    from openhcs.execution._folder import ResultFolder
    from openhcs.execution._placing import Placed
    from openhcs.execution._tables import Groups
    from openhcs.pipeline import Evaluation, GroupKey, PlannedOutput, PlannedStep, WellImage

__all__ = ["WellOutputs", "clear_outputs"]


def clear_outputs(
    folder: ResultFolder, steps: Sequence[PlannedStep], well: str, reused: Container[str] = ()
) -> None:
    """Take away what an earlier run left of a well, but for the steps that are taken over.

    Raises
    ------
    OSError
        If something cannot be removed.
    """
    for step in steps:
        if step.name in reused:
            continue
        for output in step.outputs:
            if output.kind is not Kind.LABELS:
                folder.table(output.stored, well).unlink(missing_ok=True)
        if step.image is not None:
            for path in folder.images(well).glob(f"{step.image}*"):
                if is_of(path.name, step.image):
                    shutil.rmtree(path)


class WellOutputs:
    """The outputs of one well; `commit` puts them in place.

    Parameters
    ----------
    folder
        The result folder.
    steps
        The plan's steps.
    well
        Name of the well.
    planes
        The well's raw planes, which say where its fields are.
    pixel_um
        Pixel size (y, x) in µm.
    reused
        Names of the steps whose outputs are there and still right.
    anew
        Fields that each of their outputs was made from, where these are to be summed up anew; None
        where what they come to stands.
    proceed
        Raises something to stop the well.
    finished
        Told the name of each step that is done, and the seconds it took.
    """

    def __init__(
        self,
        folder: ResultFolder,
        steps: Sequence[PlannedStep],
        well: str,
        *,
        planes: Placed,
        pixel_um: tuple[float, float] | None,
        reused: frozenset[str],
        anew: Mapping[str, Collection[int]] | None = None,
        proceed: Callable[[], None],
        finished: Callable[[str, float], None],
    ) -> None:
        self._folder = folder
        self._steps = steps
        self._well = well
        self._planes = planes
        self._reused = reused
        self._anew = anew
        self._proceed = proceed
        self._finished = finished
        self._images = WellImages(folder, well, planes=planes, pixel_um=pixel_um)
        self._labels = WellLabels(folder, well, self._images)
        self._groups: dict[str, list[tuple[GroupKey, Mapping[str, Any]]]] = {}

    def arrange(self, evaluation: Evaluation) -> None:
        """Learn from the graph of the well what the images will hold."""
        for step, stream in zip(self._steps, evaluation.streams, strict=True):
            if step.image is not None:
                self._images.arrange(step.image, stream)

    def store(
        self,
        step: PlannedStep,  # noqa: ARG002  # the protocol's
        name: str,
        kind: Kind,
        key: GroupKey,
        value: Any,
    ) -> None:
        """Take an output: images go to disk beside their place, the rest waits for `commit`."""
        match kind:
            case Kind.IMAGE:
                self._images.write(name, key, value)
            case Kind.LABELS:
                self._labels.keep(name, key, value)
            case Kind.TABLE | Kind.RECORD:
                self._groups.setdefault(name, []).append((key, value))

    def reused(self, step: PlannedStep) -> bool:
        """Say whether a step's outputs are there."""
        return step.name in self._reused

    def stored(self, step: PlannedStep, name: str, kind: Kind, key: GroupKey) -> Any:
        """Read back what an earlier run stored."""
        match kind:
            case Kind.IMAGE:
                return self._images.read(name, key)
            case Kind.LABELS:
                return self._labels.read(name, _beside(step), key)
            case Kind.TABLE | Kind.RECORD:
                return read_group(self._folder.table(name, self._well), kind, key)

    def finished(self, step: PlannedStep, seconds: float) -> None:
        """Pass on that a step is done."""
        self._finished(step.name, seconds)

    def proceed(self) -> None:
        """Stop if that was asked for."""
        self._proceed()

    def commit(self) -> WellSums:
        """Put everything in place, images first.

        Returns
        -------
        WellSums
            What the new outputs come to, or all of them.
        """
        self._images.commit(self._steps, self._groups)
        anew = [step for step in self._steps if step.name not in self._reused]
        for step in anew:
            for output in step.outputs:
                if output.kind is Kind.LABELS:
                    self._labels.commit(output.stored, _beside(step))
        for step in anew:
            for output in step.outputs:
                if output.kind is not Kind.LABELS:
                    groups = self._groups_of(step, output)
                    path = self._folder.table(output.stored, self._well)
                    write_outputs(path, self._well, output.kind, groups)
        stand = self._reused if self._anew is None else frozenset[str]()
        return sum_up(self._steps, stand, self._groups_of, self._planes.fields())

    def abort(self) -> None:
        """Take away what was not committed, and hold no outputs any more.

        Harmless after `commit`, and twice. The graph of the well holds this object and is held by
        itself: it may stay for many wells until it is collected, and should be small.
        """
        self._images.abort()
        self._labels.clear()
        self._groups.clear()

    def images(self) -> tuple[WellImage, ...]:
        """Give what lies in the plate for this well."""
        return self._images.found()

    def _groups_of(self, step: PlannedStep, output: PlannedOutput) -> Groups:
        """Give a table or record of the well, group by group."""
        if step.name not in self._reused:
            return sorted(self._groups.get(output.stored, ()), key=_sort_key)
        path = self._folder.table(output.stored, self._well)
        return read_groups(path, output.kind, (self._anew or {}).get(output.stored, ()))


def _beside(step: PlannedStep) -> str:
    """Give the image beside which a step's label images lie."""
    assert step.beside is not None  # compiling stores the image below every label image
    return step.beside


def _sort_key(group: tuple[GroupKey, Mapping[str, Any]]) -> tuple[int, int, str, int]:
    key = group[0]
    return (
        -1 if key.t is None else key.t,
        -1 if key.field is None else key.field,
        key.channel or "",
        -1 if key.z is None else key.z,
    )
