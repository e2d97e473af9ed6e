"""Gathers a stream of payloads into what a viewer should show.

A pure state machine: it starts no thread, reads no clock but the one it is given, and allocates
no picture. It can be called from one thread at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from polystore._components import Components
from polystore._errors import ProjectionError
from polystore.projection._announced import Announced
from polystore.projection._axes import AxisValues
from polystore.projection._batch import Batch
from polystore.projection._debounce import Debounce
from polystore.projection._grouping import Coordinates, Grouping, LayerKey, planes
from polystore.projection._layer_state import LayerState
from polystore.projection._modes import ComponentModes, Fit, Mode, check_components
from polystore.projection._runs import Runs
from polystore.projection._titles import Titles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from polystore._components import ComponentValue
    from polystore._payload import Payload
    from polystore.projection._layers import LayerUpdate

__all__ = ["Projector"]

_NOWHERE = Components()


class Projector:
    """Payloads in, in any order; layer updates out, when they are due.

    Parameters
    ----------
    modes
        What each component becomes.
    clock
        Gives the time in s; never goes backwards.
    fit
        What becomes of planes of one layer that differ in size, type or size of a pixel.
    shared_axes
        Whether a position is the same well in all layers, as it has to be where one slider moves
        them all. If not, each layer has the values on its axes that came for it, or were
        announced for it, as windows with sliders of their own do.
    quiet_s, longest_s
        Updates are due when nothing came for `quiet_s`, or the first waits for `longest_s`.
    most_items, most_bytes
        Bounds of one batch of updates; a full batch is due at once.

    Examples
    --------
    ::

        projector = Projector(ComponentModes(), time.monotonic)
        projector.expect({"well": ["A01", "A02"]})
        projector.add(payload)
        ...
        if (due := projector.due()) is not None and due <= time.monotonic():
            for update in projector.take():
                show(update)

    Notes
    -----
    Adding a payload costs the same however many are waiting. Taking a batch is linear in its size;
    where an axis gets longer, also in the number of layers that have it and in its length (0.1 ms
    for 100,000 values; more where a value comes in between others).

    Which layers there are and what they hold does not depend on the order in which payloads come,
    nor on when batches are taken: only for one place the last that comes counts.
    """

    def __init__(
        self,
        modes: ComponentModes,
        clock: Callable[[], float],
        *,
        fit: Fit = Fit.PAD,
        shared_axes: bool = True,
        quiet_s: float = 0.05,
        longest_s: float = 0.25,
        most_items: int = 64,
        most_bytes: int = 256 * 1024**2,
    ) -> None:
        self._grouping = Grouping(modes, fit)
        self._placed = bool(modes.of(Mode.PLACE))
        self._clock = clock
        self._debounce = Debounce(quiet_s, longest_s)
        self._batch: Batch[tuple[LayerState, Coordinates]] = Batch(
            most_items=most_items, most_bytes=most_bytes
        )
        self._shared = (
            {name: AxisValues() for name in self._grouping.on_axes} if shared_axes else None
        )
        self._announced = Announced()
        self._routes: dict[tuple[object, ...], LayerState] = {}
        self._layers: dict[LayerKey, LayerState] = {}  # those that were taken
        self._titles = Titles()
        self._runs = Runs()
        # what `take` has to look at beside what waits
        self._unseen: list[LayerState] = []
        self._changed: dict[LayerState, None] = {}
        self._removals: list[LayerUpdate] = []
        self._superseded = 0
        self._late = 0

    @property
    def pending_items(self) -> int:
        """Planes that wait to be taken."""
        return len(self._batch)

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be taken."""
        return self._batch.nbytes

    @property
    def superseded(self) -> int:
        """Planes that were replaced by newer ones before anybody took them."""
        return self._superseded

    @property
    def late(self) -> int:
        """Planes of a run that came after a newer run had taken their place."""
        return self._late

    @property
    def layers(self) -> tuple[LayerKey, ...]:
        """Layers that there are, in the order in which they were taken first."""
        return tuple(self._layers)

    def add(self, payload: Payload) -> tuple[Payload, ...]:
        """Take in a payload; the newest for a place counts.

        Parameters
        ----------
        payload
            Arrays of more than two axes are taken apart into planes, without a copy.

        Returns
        -------
        tuple of Payload
            Planes that waited for the same places, or that came too late, and will not be shown:
            who holds memory for them may let it go.
        """
        if len(payload.axes) > 2:
            self._debounce.arrived(self._clock())
            return tuple(
                older for plane in planes(payload) if (older := self._put(plane)) is not None
            )
        older = self._put(payload)
        if older is not payload:
            self._debounce.arrived(self._clock())
        return () if older is None else (older,)

    def _put(self, plane: Payload) -> Payload | None:
        found, coordinates = self._grouping.place(plane)
        layer = self._routes.get(found)
        if layer is None:
            layer = self._new_layer(found, plane)
        place = (layer, coordinates)
        if plane.run != self._runs.last and self._is_late(plane, place):
            self._late += 1
            return plane
        layer.learn(plane)
        older = self._batch.put(place, plane)
        if older is None:
            if not layer.unseen:
                self._unseen.append(layer)
            layer.unseen.append(coordinates)
        elif older is plane:  # sent twice, and it will be shown
            return None
        else:
            self._superseded += 1
        return older

    def expect(
        self,
        extents: Mapping[str, Iterable[ComponentValue]],
        where: Components = _NOWHERE,
    ) -> None:
        """Announce values of components, so that the axes have their length from the start.

        Components that are layers are left out. Layers that are there already grow with the next
        batch.

        Parameters
        ----------
        extents
            Values by the name of the component; those known already need not be named again.
        where
            Only layers of these plates, steps or the like have them. Where all layers share their
            axes, all have them.

        Raises
        ------
        ProjectionError
            If a name is no component.
        """
        check_components(extents)
        longer: list[AxisValues] = []
        for name, values in extents.items():
            if name not in self._grouping.on_axes:
                continue
            if self._shared is None:
                self._announced.add(where, name, values)
            elif self._shared[name].update(values):
                longer.append(self._shared[name])
        if self._shared is None:
            longer += [
                each for layer in self._routes.values() for each in self._announced.put_on(layer)
            ]
        if self._mark_longer(longer):
            self._debounce.arrived(self._clock())

    def clear(self, where: Components = _NOWHERE) -> tuple[Payload, ...]:
        """Show nothing any more for some components, until it comes again.

        Layers stay, with what the user set; updates say which places are empty.

        Parameters
        ----------
        where
            What has all of these components: a well, a step of a plate; all there is if empty.

        Returns
        -------
        tuple of Payload
            Planes that waited and will not be shown.
        """
        wanted = where.to_dict()
        matching = {
            layer: matches
            for layer in self._routes.values()
            if (matches := layer.matches(wanted)) is not None
        }
        cleared = [layer for layer, matches in matching.items() if layer.clear(matches)]
        self._changed.update(dict.fromkeys(cleared))
        if cleared:
            self._debounce.arrived(self._clock())
        return self._drop(lambda place: place[0] in matching and matching[place[0]](place[1]))

    def restart(self, run: str, where: Components = _NOWHERE) -> tuple[Payload, ...]:
        """Let a run begin: what others made of these components is cleared, and late from now on.

        Without this, planes of a new run take the places of the old one by one, `earlier` of an
        update says how many have not been replaced, and of the old run comes late only what would
        replace a newer one.

        Parameters
        ----------
        run
            Its identity, as payloads have it.
        where
            What it will make anew; all there is if empty.

        Returns
        -------
        tuple of Payload
            Planes that waited and will not be shown.
        """
        self._runs.begin(run)
        self._runs.end_earlier(where.to_dict())
        return self.clear(where)

    def remove(self, key: LayerKey) -> tuple[Payload, ...]:
        """Take a layer away; an update says so. It is made anew if something comes for it.

        Returns
        -------
        tuple of Payload
            Planes that waited and will not be shown.

        Raises
        ------
        ProjectionError
            If there is no such layer.
        """
        layer = self._layer(key)
        self._removals.append(layer.removal(self._titles.of(key)))
        self._debounce.arrived(self._clock())
        return self.forget(key)

    def forget(self, key: LayerKey) -> tuple[Payload, ...]:
        """Know nothing any more of a layer, because the viewer has it no longer.

        Returns
        -------
        tuple of Payload
            Planes that waited and will not be shown.

        Raises
        ------
        ProjectionError
            If there is no such layer.
        """
        layer = self._layer(key)
        del self._layers[key]
        self._routes = {found: other for found, other in self._routes.items() if other is not layer}
        self._changed.pop(layer, None)
        self._rename(self._titles.remove(key))
        if self._changed:
            self._debounce.arrived(self._clock())
        return self._drop(lambda place: place[0] is layer)

    def due(self) -> float | None:
        """When `take` should be called, on the projector's clock; None while nothing waits."""
        deadline = self._debounce.deadline
        return self._clock() if deadline is not None and self._batch.full else deadline

    def take(self) -> list[LayerUpdate]:
        """Give the next batch of updates, whether it is due or not.

        Returns
        -------
        list of LayerUpdate
            Removals, then one for each layer that changes, new ones in the order in which they
            came. What does not fit into a batch stays, and the deadline with it.
        """
        unseen, self._unseen = self._unseen, []
        self._mark_longer([longer for layer in unseen for longer in layer.grow()])
        groups: dict[LayerState, tuple[list[Coordinates], list[Payload]]] = {}
        last: LayerState | None = None
        there: list[Coordinates] = []
        payloads: list[Payload] = []
        for (layer, coordinates), payload in zip(*self._batch.take(), strict=True):
            if layer is not last:
                last = layer
                there, payloads = groups.setdefault(layer, ([], []))
            there.append(coordinates)
            payloads.append(payload)
        for layer in groups:
            self._layers.setdefault(layer.key, layer)
            self._rename(self._titles.put(layer.key, layer.channel_name))
        updates, self._removals = self._removals, []
        for layer in groups | dict.fromkeys(self._changed):
            there, payloads = groups.get(layer, ([], []))
            updates.append(
                layer.update(
                    self._titles.of(layer.key),
                    there,
                    payloads,
                    self._runs.numbers(payloads),
                    self._runs.names,
                )
            )
        self._changed = {}
        if not self._batch:
            self._debounce.taken()
        return updates

    def missing(self, key: LayerKey) -> list[Components]:
        """Positions of a layer that nothing was taken for yet, in the order of the axes.

        Raises
        ------
        ProjectionError
            If there is no such layer.
        """
        return self._layer(key).missing()

    def _layer(self, key: LayerKey) -> LayerState:
        if key not in self._layers:
            raise ProjectionError(f"there is no layer {key}")
        return self._layers[key]

    def _new_layer(self, found: tuple[object, ...], plane: Payload) -> LayerState:
        key = self._grouping.key(plane)
        values = self._shared or {name: AxisValues() for name in key.axes}
        layer = LayerState(key, self._grouping.axes, values, placed=self._placed)
        self._routes[found] = layer
        if self._shared is None:
            self._announced.put_on(layer)
        return layer

    def _mark_longer(self, longer: list[AxisValues]) -> bool:
        if not longer:
            return False
        grown = [layer for layer in self._layers.values() if layer.uses(longer)]
        self._changed.update(dict.fromkeys(grown))
        return bool(grown)

    def _rename(self, keys: list[LayerKey]) -> None:
        self._changed.update((self._layers[key], None) for key in keys)

    def _is_late(self, plane: Payload, place: tuple[LayerState, Coordinates]) -> bool:
        number = self._runs.number(plane.run)
        if number == self._runs.newest:
            return False
        layer, coordinates = place
        waiting = self._batch.get(place)
        return (
            number < layer.filled.get(coordinates, 0)
            or (waiting is not None and number < self._runs.number(waiting.run))
            or self._runs.is_ended(number, plane.components.to_dict())
        )

    def _drop(
        self, unwanted: Callable[[tuple[LayerState, Coordinates]], bool]
    ) -> tuple[Payload, ...]:
        dropped = tuple(self._batch.drop(unwanted))
        if not (self._batch or self._changed or self._removals):
            self._debounce.taken()
        return dropped
