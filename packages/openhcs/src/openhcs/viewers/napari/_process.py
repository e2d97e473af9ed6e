"""The process of the napari service: one window, one control channel, one data channel."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from openhcs._typed import from_plain
from openhcs.viewers._receiver import Receiver
from polystore.projection import ComponentModes, Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from openhcs.viewers._run_status import RunWells
    from zmqruntime import Item, Peer, Request, Subscriber, ZMQServer
    from zmqruntime.security import KeyFolder

__all__ = ["APP", "main", "serve"]

APP: Final = "napari"
_SLICE_S: Final = 0.008
_QUIET_MS: Final = 500
_NET_MS: Final = 50

logger = logging.getLogger(__name__)


FIELDS = ("slider", "place")
"""How fields of a well are shown; the first by default."""


def main(words: Sequence[str] | None = None) -> int:
    """Serve until the window is closed or the service is asked to stop.

    Parameters
    ----------
    words
        Arguments; those of the process by default.

    Returns
    -------
    int
        0, or 1 when the address is in use or the window cannot be opened.
    """
    parser = argparse.ArgumentParser(prog="openhcs viewer napari")
    parser.add_argument("--port", type=int, default=5555)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--insecure", action="store_true")
    parser.add_argument("--fields", choices=FIELDS, default=FIELDS[0])
    arguments = parser.parse_args(words)
    return serve(
        arguments.port,
        bind=arguments.bind,
        insecure=arguments.insecure,
        fields=arguments.fields,
    )


def serve(
    port: int,
    *,
    bind: str = "127.0.0.1",
    keys: KeyFolder | None = None,
    insecure: bool = False,
    fields: str = "slider",
) -> int:
    """Open the window and serve until it is closed or the service is asked to stop.

    Parameters
    ----------
    port
        Control port; images come in on the port 1000 above.
    bind
        Address to listen on.
    keys
        Serve only whoever has an authorised key, on both channels, which are encrypted then.
    insecure
        Listen beyond this computer without keys.
    fields
        ``slider`` shows one field at a time, ``place`` all of a well where the stage took them.

    Returns
    -------
    int
        0, or 1 when the address is in use or may not be used.
    """
    from zmqruntime import Endpoint, Subscriber, ZmqRuntimeError, ZMQServer

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        server = ZMQServer(
            APP, Endpoint("localhost", port), bind_address=bind, keys=keys, insecure=insecure
        )
        server.start(ready=False)
    except ZmqRuntimeError as error:
        print(f"openhcs: {error}", file=sys.stderr)  # noqa: T201  # the program's own words
        return 1
    with server:
        server.install_signal_handlers()
        with Subscriber(server) as subscriber:
            return _Window(server, subscriber, fields == "place").show_until_closed()


class _Window:
    """Everything that touches napari and Qt; lives in the main thread."""

    def __init__(self, server: ZMQServer, subscriber: Subscriber, placed: bool) -> None:
        os.environ.setdefault("QT_API", "pyqt6")
        import napari
        from napari.qt import get_qapp
        from PyQt6.QtCore import QObject, QSocketNotifier, QTimer, pyqtSignal
        from PyQt6.QtOpenGLWidgets import QOpenGLWidget

        from openhcs.viewers.napari._layers import LayerBook
        from openhcs.viewers.napari._runs_dock import RunsDock

        class Signals(QObject):
            """Carries requests of the I/O thread into this one."""

            stop = pyqtSignal(str)
            run = pyqtSignal(object)

        self._application = get_qapp()
        self._server = server
        modes = ComponentModes()
        if placed:
            modes = modes.changed({"field": Mode.PLACE})
        self._receiver = Receiver(subscriber, modes)
        self._viewer = napari.Viewer(title=f"napari, port {server.ports.control}", show=True)
        self._enlarge()
        self._book = LayerBook(self._viewer, placed=placed)
        self._names: tuple[str, ...] = ()  # for the I/O thread, which must not touch layers
        layers = self._viewer.layers.events
        for event in (layers.inserted, layers.removed, layers.reordered, layers.renamed):
            event.connect(self._note_names)
        self._dock = RunsDock()
        self._dock.widget.chosen.connect(self._go_to)
        self._viewer.window.add_dock_widget(self._dock.widget, name="Runs", area="right")
        self._label_place()
        self._waiting_for_frame: list[Item] = []
        for canvas in self._application.allWidgets():
            if isinstance(canvas, QOpenGLWidget):
                canvas.frameSwapped.connect(self._acknowledge_shown)

        self._signals = Signals()
        self._signals.stop.connect(self._close)
        self._signals.run.connect(self._show_run)
        server.on_stop_request(self._signals.stop.emit)
        server.control.handle("command", self._on_command, on_loop=True)
        self._notifier = QSocketNotifier(
            subscriber.fileno(),  # type: ignore[call-overload]  # an int, whatever the stubs say
            QSocketNotifier.Type.Read,
        )
        self._notifier.activated.connect(self._drain)
        self._later = QTimer()
        self._later.setSingleShot(True)
        self._later.timeout.connect(self._drain)
        self._quiet = QTimer()
        self._quiet.setSingleShot(True)
        self._quiet.setInterval(_QUIET_MS)
        self._quiet.timeout.connect(self._book.refresh_thumbnails)

    def show_until_closed(self) -> int:
        """Run Qt's loop; the service says that it is ready once the loop turns."""
        from PyQt6.QtCore import QTimer

        QTimer.singleShot(0, self._server.report_ready)
        try:
            self._application.exec()
        finally:
            self._notifier.setEnabled(False)
            self._receiver.close()
        return 0

    def _drain(self, *_: object) -> None:
        """Take in what came, for one slice of time, and show what is due."""
        more = self._receiver.drain(_SLICE_S)
        due = self._receiver.due_in()
        if due is not None and due <= 0:
            self._waiting_for_frame += self._receiver.carry_out(self._book.apply)
            self._quiet.start()
            due = self._receiver.due_in()
        if more:
            self._later.start(0)
        elif due is not None:
            self._later.start(min(int(due * 1000) + 1, _NET_MS))

    def _acknowledge_shown(self) -> None:
        for item in self._waiting_for_frame:
            item.ack("displayed")
        self._waiting_for_frame.clear()

    def _on_command(self, request: Request, _peer: Peer) -> dict[str, Any]:
        """Answer a producer or a tool; runs on the I/O thread."""
        import msgspec

        from openhcs.viewers._run_status import RunWells
        from zmqruntime import InvalidRequestError, NotFoundError

        body = request.body
        match body.get("name"):
            case "run.wells":
                try:
                    run = from_plain(body.get("args"), RunWells)
                except msgspec.ValidationError as error:
                    message = f"run.wells does not fit: {error}"
                    raise InvalidRequestError(message) from error
                self._signals.run.emit(run)
                return {}
            case "describe":
                return {"layers": list(self._names), "counts": dict(self._receiver.counts)}
            case unknown:
                message = f"napari has no command {unknown!r}; it has run.wells and describe"
                raise NotFoundError(message)

    def _note_names(self, _event: object = None) -> None:
        self._names = tuple(str(layer.name) for layer in self._viewer.layers)

    def _show_run(self, run: RunWells) -> None:
        self._receiver.expect({"well": [well.well for well in run.wells]})
        if self._dock.show(run):
            self._book.show_plate(run.plate)
        self._write_place()
        self._drain()

    def _go_to(self, key: tuple[str, str]) -> None:
        """Show the plate of a run that was chosen in the dock, and move the slider to its well."""
        self._book.show_plate(self._dock.plate_of(key[0]))
        wells = self._book.axis_values.get("well", ())
        if key[1] in wells:
            axis = list(self._book.axis_values).index("well")
            self._viewer.dims.set_current_step(axis, wells.index(key[1]))
        self._write_place()

    def _enlarge(self) -> None:
        """Use the screen, unless the user has chosen another size before."""
        from napari.settings import get_settings

        if get_settings().application.window_size is None:
            screen = self._application.primaryScreen().availableGeometry()
            width, height = screen.width(), screen.height()
            self._viewer.window.set_geometry(
                screen.x() + width // 20,
                screen.y() + height // 20,
                width * 9 // 10,
                height * 9 // 10,
            )

    def _label_place(self) -> None:
        """Write the values of the sliders onto the canvas, such as ``B03``."""
        overlays = self._viewer.canvas.overlays
        overlays["text"].visible = overlays["scale_bar"].visible = True
        self._viewer.dims.events.current_step.connect(self._write_place)
        self._viewer.layers.events.inserted.connect(self._write_place)

    def _write_place(self, _event: object = None) -> None:
        parts: list[str] = []
        for axis, (name, values) in enumerate(self._book.axis_values.items()):
            if not values:
                continue
            value = values[min(self._viewer.dims.current_step[axis], len(values) - 1)]
            if name == "well":
                state = self._dock.state_of(self._book.plate, str(value))
                parts.append(f"{value} ({state})" if state not in ("", "ok") else str(value))
            else:
                parts.append(f"{name} {value}")
        self._viewer.canvas.overlays["text"].text = "   ".join(parts)

    def _close(self, reason: str) -> None:
        logger.info("closing: %s", reason)
        self._viewer.close()
        self._application.quit()
