"""The option that names a folder of keys."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from zmqruntime.security import KeyFolder

__all__ = ["OWN_KEYS", "add_keys_option", "key_folder"]

OWN_KEYS = Path()
"""``--keys`` without a folder: the user's own."""


def add_keys_option(parser: argparse.ArgumentParser, use: str) -> None:
    """Add ``--keys [DIR]``.

    Parameters
    ----------
    parser
        Of the command.
    use
        What the keys are for.
    """
    parser.add_argument(
        "--keys",
        type=Path,
        nargs="?",
        const=OWN_KEYS,
        metavar="DIR",
        help=f"{use}; keys lie in DIR (default: ~/.config/zmqruntime/keys)",
    )


def key_folder(arguments: argparse.Namespace) -> KeyFolder | None:
    """Give the folder that was named, or the user's; None without the option."""
    from zmqruntime.security import KeyFolder

    if arguments.keys is None:
        return None
    return KeyFolder.default() if arguments.keys == OWN_KEYS else KeyFolder(arguments.keys)
