"""What a run came to, in a few lines."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table

from openhcs._words import counted
from openhcs.cli._console import printable, say
from openhcs.pipeline import Outcome

if TYPE_CHECKING:
    from rich.console import Console

    from openhcs.execution import RunResult

__all__ = ["MOST_NAMED", "sum_up"]

MOST_NAMED = 20
"""How many wells are named one by one."""


def sum_up(result: RunResult, console: Console) -> None:
    """Say how many wells ended in which way, and what went wrong with the others."""
    counts = Counter(well.outcome for well in result.wells)
    reused = sum(well.reused for well in result.wells)
    parts = [f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]]
    again = f", {reused} of them from before" if reused else ""
    wells = counted(len(result.wells), "well")
    say(console, f"{wells}: {', '.join(parts)}{again}, {result.seconds:.1f} s")
    if result.reason:
        say(console, result.reason, "red")
    for warning in result.warnings:
        say(console, f"Warning: {warning}", "yellow")
    for note in result.notes:
        say(console, f"Note: {note}", "yellow")
    bad = [well for well in result.wells if well.outcome not in {Outcome.OK, Outcome.CANCELLED}]
    if bad and not console.is_terminal:
        for well in bad[:MOST_NAMED]:
            say(console, f"{well.well}  {well.outcome}  {well.error or ''}")
    elif bad:
        table = Table("well", "outcome")
        table.add_column("what happened", overflow="fold")
        for well in bad[:MOST_NAMED]:
            table.add_row(well.well, well.outcome, printable(well.error or ""))
        console.print(table)
    if bad:
        if len(bad) > MOST_NAMED:
            say(console, f"and {len(bad) - MOST_NAMED} more; the report names them all")
        if any(well.traceback for well in bad):
            say(console, f"Tracebacks are in {result.out / 'run.log'}")
        if not result.reason:
            they = "it" if len(bad) == 1 else "them"
            say(console, f"The same command tries {they} again, and nothing that is finished.")
    say(console, f"Results: {result.out}")
