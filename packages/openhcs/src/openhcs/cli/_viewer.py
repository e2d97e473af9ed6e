"""``openhcs viewer``: start a viewer by hand."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from openhcs._errors import ViewerError
from openhcs.cli._arguments import base_port
from openhcs.cli._keys import add_keys_option, key_folder

if TYPE_CHECKING:
    import argparse

    from openhcs.cli._commands import Commands

__all__ = ["add_to"]


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("viewer", help="start a viewer that runs stream to")
    viewers = parser.add_subparsers(dest="viewer", metavar="VIEWER", required=True)
    napari = viewers.add_parser(
        "napari",
        help="start napari",
        description="Start a napari window that runs stream to. Control is on PORT, images on "
        "PORT + 1000.",
    )
    napari.add_argument(
        "--port", type=base_port, default=5555, help="base port (default: %(default)s)"
    )
    napari.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen on (default: %(default)s)",
    )
    napari.add_argument(
        "--insecure",
        action="store_true",
        help="listen beyond this computer without keys: on a trusted network only",
    )
    napari.add_argument(
        "--fields",
        choices=["slider", "place"],
        default="slider",
        help="show one field at a time, or all of a well beside each other, each where the stage "
        "took it (default: %(default)s)",
    )
    add_keys_option(napari, "let in whoever has an authorised key, and nobody else")
    napari.set_defaults(carry_out=_napari)


def _napari(arguments: argparse.Namespace) -> int:
    if importlib.util.find_spec("napari") is None:
        message = "napari is not installed here: pip install 'openhcs[napari]'"
        raise ViewerError(message)
    from openhcs.viewers.napari import serve

    return serve(
        arguments.port,
        bind=arguments.bind,
        keys=key_folder(arguments),
        insecure=arguments.insecure,
        fields=arguments.fields,
    )
