"""The viewer's half of a stream: items in, layer updates out, memory given back."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from polystore import Kind, PolystoreError, decode
from polystore.projection import ComponentModes, Projector
from zmqruntime import Gap, GapReason, StaleSlotError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from polystore import ComponentValue, Payload
    from polystore.projection import LayerUpdate, Placement
    from zmqruntime import Item, Subscriber

    Apply = Callable[[LayerUpdate], Iterable[Placement]]

__all__ = ["Receiver"]

_PICTURES: Final = frozenset({Kind.IMAGE, Kind.LABELS})

logger = logging.getLogger(__name__)


class Receiver:
    """Turns what a subscriber receives into updates of layers.

    A payload that came through shared memory is looked at where it lies, until the update that
    holds it was carried out; then its place is given back and the producer is told.

    Parameters
    ----------
    subscriber
        Where items come from.
    modes
        What becomes a slider and what a layer of its own.
    kinds
        What the viewer shows; payloads of other kinds are refused.

    Notes
    -----
    One thread uses it: that of the viewer's window.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        modes: ComponentModes | None = None,
        *,
        kinds: frozenset[Kind] = _PICTURES,
    ) -> None:
        self._subscriber = subscriber
        self._kinds = kinds
        self._projector = Projector(modes or ComponentModes(), time.monotonic)
        self._items: dict[int, tuple[Payload, Item]] = {}
        self.counts: Counter[str] = Counter()
        """``received``, ``refused`` and ``missing`` payloads so far."""

    def expect(self, extents: Mapping[str, Iterable[ComponentValue]]) -> None:
        """Announce values of components, so that sliders have their length from the start."""
        self._projector.expect(extents)

    def drain(self, seconds: float) -> bool:
        """Take in what has arrived, for a limited time.

        Parameters
        ----------
        seconds
            Time after which to stop, so that the window stays fluid.

        Returns
        -------
        bool
            Whether more is waiting.
        """
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            entries = self._subscriber.receive(1)
            if not entries:
                return False
            for entry in entries:
                if isinstance(entry, Gap):
                    self.counts["missing"] += len(entry)
                    logger.warning(
                        "%d payloads of %s are missing: %s", len(entry), entry.topic, entry.reason
                    )
                else:
                    self._take_in(entry)
            del entries, entry
        return True

    def due_in(self) -> float | None:
        """Seconds until `updates` should be asked for; None while nothing waits."""
        due = self._projector.due()
        return None if due is None else max(0.0, due - time.monotonic())

    def carry_out(self, apply: Apply) -> list[Item]:
        """Hand the updates that wait to a viewer, give their memory back, and say so.

        Parameters
        ----------
        apply
            Carries one update out and gives the placements that are on the screen. It must not
            keep the update: its planes lie in memory that is given back after it returns.

        Returns
        -------
        list of Item
            Those that are on the screen with the next frame, to be acknowledged then.
        """
        updates = self._projector.take()[::-1]
        visible: list[Item] = []
        while updates:
            update = updates.pop()
            held = {
                id(placement.payload): self._items.pop(id(placement.payload))[1]
                for placement in update.placements
                if id(placement.payload) in self._items
            }
            problem = ""
            shown: set[int] = set()
            try:
                shown = {id(placement.payload) for placement in apply(update)}
            except Exception as error:
                logger.exception("%s cannot be shown", update.name)
                problem = f"{update.name} cannot be shown: {error}"
            del update
            for number, item in held.items():
                if self._settle(item, problem) and number in shown:
                    visible.append(item)
        return visible

    def close(self) -> None:
        """Give back everything that is held."""
        while self._items:
            _, (_, item) = self._items.popitem()
            self._settle(item, "the viewer was closed")

    def _take_in(self, item: Item) -> None:
        try:
            payload = decode(item.header, item.lease.map())
            if payload.kind not in self._kinds:
                kind = payload.kind
                del payload
                shown = ", ".join(sorted(self._kinds))
                self._settle(item, f"this viewer shows {shown}, not {kind}", code="kind")
                return
            if payload.axes[:-2]:  # it is taken apart, and its parts are shown one by one
                del payload
                payload = decode(item.header, item.lease.copy())
                item.ack("received")
                self.counts["received"] += 1
            else:
                self._items[id(payload)] = (payload, item)
            superseded = self._projector.add(payload)
        except StaleSlotError as error:
            self._settle(item, str(error), code=str(GapReason.LEASE_EXPIRED))
            return
        except PolystoreError as error:
            problem = str(error)
        else:
            replaced = [id(older) for older in superseded]
            del superseded, payload
            for number in replaced:
                if number in self._items:
                    self._settle(self._items.pop(number)[1], "")
            return
        self._settle(item, f"it cannot be read: {problem}")

    def _settle(self, item: Item, problem: str, *, code: str = "unusable") -> bool:
        """Give an item's memory back and say what became of it; True if it was taken in."""
        if problem:  # before the release, which means that it was taken in
            item.fail(code, problem)
        if not item.lease.released:
            try:
                item.lease.release()
            except StaleSlotError as error:
                problem = problem or str(error)
                item.fail(str(GapReason.LEASE_EXPIRED), problem)
        if problem:
            self.counts["refused"] += 1
            return False
        item.ack("received")
        self.counts["received"] += 1
        return True
