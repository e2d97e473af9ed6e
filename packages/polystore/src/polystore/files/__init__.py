"""Files that are written whole or not at all, with checksums, locks and what writers left."""

from __future__ import annotations

from polystore.files._atomic import atomic_file, atomic_folder, delete_file, write_bytes, write_json
from polystore.files._checksums import Checksum, check_file, read_bytes
from polystore.files._documents import read_json, update_json
from polystore.files._leftovers import leftovers, remove_leftovers

__all__ = [
    "Checksum",
    "atomic_file",
    "atomic_folder",
    "check_file",
    "delete_file",
    "leftovers",
    "read_bytes",
    "read_json",
    "remove_leftovers",
    "update_json",
    "write_bytes",
    "write_json",
]
