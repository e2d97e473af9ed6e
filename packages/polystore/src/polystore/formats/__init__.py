"""Payloads as files that others read too: NPY, JSON, and a registry for more."""

from __future__ import annotations

from polystore.formats._format import Format
from polystore.formats._json import JsonFormat
from polystore.formats._npy import NpyFormat
from polystore.formats._registry import Formats, standard_formats

__all__ = ["Format", "Formats", "JsonFormat", "NpyFormat", "standard_formats"]
