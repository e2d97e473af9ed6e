"""The dock that lists runs and their wells: what is there, what failed, what is still to come."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pyqt_reactive import Column, TreeModel, TreeView
from pyqt_reactive.model import Aggregator, Node, Progress, Snapshot, progress, worst

if TYPE_CHECKING:
    from PyQt6.QtWidgets import QWidget

    from openhcs.viewers._run_status import RunWells

__all__ = ["RunsDock"]

_STATES = ("failed", "lost", "cancelled", "running", "queued", "ok")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    title: str
    state: str
    note: str = ""
    progress: Progress = field(default_factory=Progress)


class RunsDock:
    """A tree of runs and wells over what producers said.

    Attributes
    ----------
    widget
        The tree; its signal ``chosen`` gives (run, well) of an activated row.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        self._rows: dict[tuple[str, str], Node] = {}
        self._states: dict[tuple[str, str], str] = {}
        self._plates: dict[str, str] = {}
        self._folded = Aggregator({("run", "state"): worst(_STATES), ("run", "progress"): progress})
        self._model = TreeModel(
            (
                Column(title="Run", text=lambda node: node.fields.title),
                Column(
                    title="State",
                    text=self._words,
                    tooltip=lambda node: node.fields.note or node.fields.state,
                    state=lambda node: str(self._folded[node.key]["state"]),
                    fraction=self._fraction,
                ),
            )
        )
        self.widget = TreeView(self._model, "Runs and their wells", parent)

    def show(self, run: RunWells) -> bool:
        """Take in what a producer says of a run; wells that it does not name stay as they are.

        Returns
        -------
        bool
            Whether the run was not known before.
        """
        key = (run.run, "")
        new = key not in self._rows
        if new:
            title = run.title or run.plate or run.run
            same = {
                self._plates[name]
                for (name, well), node in self._rows.items()
                if not well and node.fields.title == title
            }
            if same and run.plate not in same:  # another plate of the same name
                title = run.plate
            self._rows[key] = Node(key=key, kind="run", fields=_Row(title=title, state="queued"))
        self._plates[run.run] = run.plate
        for well in run.wells:
            self._states[run.plate, well.well] = well.state
            done = well.state == "ok"
            bad = well.state in ("failed", "lost", "cancelled")
            fields = _Row(
                title=well.well,
                state=well.state if well.state in _STATES else "running",
                note=well.note,
                progress=Progress(done=int(done), failed=int(bad), total=1),
            )
            before = self._rows.get((run.run, well.well))
            self._rows[run.run, well.well] = (
                Node(key=(run.run, well.well), parent=key, kind="well", fields=fields)
                if before is None
                else replace(before, fields=fields)
            )
        snapshot = Snapshot(self._rows.values())
        self._folded.reset(snapshot)
        # A run's row looks different when its wells do: its own fields carry the folded counts.
        folded = replace(self._rows[key].fields, progress=self._folded[key]["progress"])
        if folded != self._rows[key].fields:
            self._rows[key] = replace(self._rows[key], fields=folded)
        self.widget.show_snapshot(Snapshot(self._rows.values()))
        return new

    def plate_of(self, run: str) -> str:
        """Give the plate of a run; empty when it is not known."""
        return self._plates.get(run, "")

    def state_of(self, plate: str, well: str) -> str:
        """Give the state of a well in the run that spoke of it last; empty when none did."""
        return self._states.get((plate, well), "")

    def _words(self, node: Node) -> str:
        if node.kind == "well":
            return str(node.fields.note or node.fields.state)
        counts: Progress = self._folded[node.key]["progress"]
        failed = f", {counts.failed} failed" if counts.failed else ""
        return f"{counts.done} of {counts.total or 0} wells{failed}"

    def _fraction(self, node: Node) -> float | None:
        counts: Progress = self._folded[node.key]["progress"]
        return counts.fraction if node.kind == "run" else None
