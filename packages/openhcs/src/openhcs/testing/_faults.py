"""Damage done to a finished synthetic plate on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from openhcs.testing._spec import PlateSpec, Seed, generator
from openhcs.testing.formats import layout_of
from openhcs.testing.formats._damage import Bench, FaultKind, Row

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Fault", "FaultKind", "InjectedFault", "as_faults", "inject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A damage to do, and to which plane; what is None is chosen from the plate's seed.

    Parameters
    ----------
    kind
        ``missing-plane``, ``empty-file``, ``truncated`` (to three fifths), ``wrong-dtype``
        (uint8, or uint16 in a layout of uint8), ``wrong-size`` (16 rows and 24 columns less),
        ``duplicate-key`` (a second file for the plane), ``duplicate-content`` (the bytes of
        another channel's file, with one channel of another field's), ``foreign-file`` (a picture
        that is no plane), ``unlisted-file`` (a plane that the index does not name),
        ``swapped-label`` (the metadata name another plane), ``corrupt-metadata``, ``path-escape``
        (the index names a file outside the plate) or ``error-record`` (the microscope says that
        it failed). Which of them a layout can have, its ``faults`` say.
    well, field, channel, z, t
        The plane, numbers 0-based.
    """

    kind: FaultKind
    well: str | None = None
    field: int | None = None
    channel: int | None = None
    z: int | None = None
    t: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedFault:
    """One damage, and how a reader should name it.

    Parameters
    ----------
    kind
        Which of the known faults.
    code
        Code of the finding that a reader owes.
    path
        The file it concerns, relative to the plate; for ``path-escape`` the one that the index
        no longer names.
    well, field, channel, z, t
        The plane it concerns, 0-based; an empty well and -1 where it concerns none.
    """

    kind: str
    code: str
    path: str
    well: str
    field: int
    channel: int
    z: int
    t: int


def as_faults(spec: PlateSpec, faults: Sequence[Fault | FaultKind]) -> tuple[Fault, ...]:
    """Check faults before a plate is made for them.

    Raises
    ------
    ValueError
        If a fault is not known, or does not fit the format.
    """
    given = tuple(Fault(kind=fault) if isinstance(fault, str) else fault for fault in faults)
    known = layout_of(spec).faults
    for fault in given:
        if fault.kind not in get_args(FaultKind):
            raise ValueError(
                f"{fault.kind!r} is no fault; known are {', '.join(get_args(FaultKind))}"
            )
        if fault.kind not in known:
            raise ValueError(
                f"a plate of the format {spec.format} cannot have the fault {fault.kind}; "
                f"it can have {', '.join(known)}"
            )
    return given


def inject(
    plate: Path, spec: PlateSpec, rows: list[Row], faults: Sequence[Fault]
) -> list[InjectedFault]:
    """Damage a plate.

    Parameters
    ----------
    plate
        Its folder.
    spec
        What it was made from.
    rows
        The table of its files; brought up to date.
    faults
        What to do, each to a plane that is still whole.

    Returns
    -------
    list of InjectedFault
        What was done. Where the metadata of two planes are exchanged, there are two.

    Raises
    ------
    ValueError
        If no plane is left for a fault.
    """
    layout = layout_of(spec)
    bench = Bench(plate, spec, layout, rows)
    for number, fault in enumerate(faults):
        layout.faults[fault.kind](bench, _choose(bench, fault, number))
    return [
        InjectedFault(
            kind=kind,
            code=code,
            **{name: row[name] for name in ("path", "well", "field", "channel", "z", "t")},
        )
        for kind, code, row in bench.noted
    ]


def _choose(bench: Bench, fault: Fault, number: int) -> Row:
    """Find the plane for a fault."""
    wanted = {
        name: value
        for name in ("well", "field", "channel", "z", "t")
        if (value := getattr(fault, name)) is not None
    }
    whole = bench.whole(wanted)
    if not whole:
        raise ValueError(f"the plate has no whole plane left for {fault}")
    rng = generator(bench.spec.seed, Seed.FAULT, number)
    return whole[int(rng.integers(len(whole)))]
