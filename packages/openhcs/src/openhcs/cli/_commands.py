"""The type of what commands are added to, which argparse gives no public name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from argparse import ArgumentParser, _SubParsersAction

__all__ = ["Commands"]

Commands: TypeAlias = "_SubParsersAction[ArgumentParser]"
