"""Processes that write until they are killed, forked from one that has everything loaded.

Reads a JSON request a line, starts a process for it, and says its id, what it has finished, and
that it is dead::

    {"kind": "tiff", "target": "...", "number": 7, "steps": null}
    -> pid 123 / did 8 / did 9 / dead -9
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile  # noqa: F401  # loaded before processes are forked
import xxhash  # noqa: F401  # likewise
import zarr  # noqa: F401  # likewise

from polystore import Payload
from polystore.backends import ZarrStore
from polystore.files import Checksum, atomic_folder, update_json, write_bytes, write_json
from polystore.formats import write_plane
from polystore.omezarr import (
    ImageMeta,
    ImageSlot,
    ImageWriter,
    PlateLayout,
    create_plate,
    extend_plate,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE_PX = 96
NOISE = np.random.default_rng(0).integers(0, 500, (SIDE_PX, SIDE_PX)).astype(np.uint16)
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate"}
TO_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def write_file(target: Path, number: int) -> None:
    write_bytes(target, np.full(50_000, number, "<u4").tobytes())


def write_summed(target: Path, number: int) -> None:
    write_bytes(target, np.full(50_000, number, "<u4").tobytes(), checksum=Checksum.XXH128)


def write_tiff(target: Path, number: int) -> None:
    write_plane(target, NOISE + np.uint16(number), compression="lzw", checksum=Checksum.SHA256)


def write_document(target: Path, number: int) -> None:
    write_json(target, [number] * 10_000)


def update_document(target: Path, number: int) -> None:
    update_json(target, lambda old: {"number": number, "again": [*old["again"][-50:], number]})


def write_folder(target: Path, number: int) -> None:
    with atomic_folder(target) as folder:
        for name in range(10):
            (folder / str(name)).write_text(str(number), encoding="ascii")


def write_image(target: Path, number: int) -> None:
    shape = (2, SIDE_PX, SIDE_PX)
    meta = ImageMeta(attributes={"number": number})
    place = (target, "A01", "0")
    with ImageWriter(*place, shape, "u2", meta, coarsest_px=64, checksum=True) as image:
        for channel in range(2):
            image.write_plane(NOISE + np.uint16(number), c=channel)
        image.commit()


def label(target: Path, number: int) -> None:
    labels = NOISE.astype(np.uint32) + np.uint32(number)
    write_labels(target, "A01", "0", "nuclei", labels, attributes={"number": number})


def keep(target: Path, number: int) -> None:
    payload = Payload(data=NOISE + np.uint16(number), run=str(number))
    ZarrStore(target).store("a/b", payload)


def extend(target: Path, number: int) -> None:
    images = [ImageSlot(f"field{each}") for each in range(number + 1)]
    wells = [f"A{column:02d}" for column in range(1, 3 + min(number, 2))]
    extend_plate(
        target,
        PlateLayout.regular("p", rows=2, columns=12, wells=wells, images=images),
    )


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "file": write_file,
    "summed": write_summed,
    "tiff": write_tiff,
    "document": write_document,
    "update": update_document,
    "folder": write_folder,
    "image": write_image,
    "labels": label,
    "payload": keep,
    "plate": extend,
}


def prepare(kind: str, target: Path) -> None:
    if kind == "update":
        write_json(target, {"number": 0, "again": [0]})
        return
    if kind in {"image", "labels", "plate"}:
        layout = PlateLayout.regular("p", rows=2, columns=12, wells=["A01", "A02"], images=["0"])
        if kind == "plate":
            layout = PlateLayout.regular(
                "p", rows=2, columns=12, wells=["A01", "A02"], images=["field0"]
            )
        create_plate(target, layout)
    if kind == "labels":
        write_image(target, 0)
    if kind != "plate":
        WRITERS[kind](target, 0)


def say(text: str) -> None:
    # one write, so that lines of several processes do not mix
    os.write(1, f"{text}\n".encode())


def write_on(kind: str, target: Path, number: int, steps: int | None) -> None:
    """Write number after number; with `steps`, one, and die before so many steps on the disk."""
    if steps is not None:
        count = 0

        def step(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in STEPS or not str(arguments[0]).startswith(str(target.parent)):
                return
            if event == "open" and not arguments[2] & TO_WRITE:
                return
            count += 1
            if count == steps:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(step)
        WRITERS[kind](target, number + 1)
        return
    while True:
        number += 1
        WRITERS[kind](target, number)
        say(f"did {number}")


def count_up(target: Path, threads: int, each: int) -> None:
    """Add to a number in a document, from several threads."""

    def add(who: str) -> None:
        for _ in range(each):
            update_json(target, lambda old: {**old, who: old.get(who, 0) + 1}, default={})
            say(f"did {who}")

    workers = [threading.Thread(target=add, args=(f"{os.getpid()}-{n}",)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def act(request: dict[str, Any]) -> None:
    target = Path(request["target"])
    if request["kind"] == "count":
        count_up(target, request["threads"], request["each"])
    else:
        write_on(request["kind"], target, request["number"], request["steps"])


def main() -> None:
    say("ready")
    for line in sys.stdin:
        request = json.loads(line)
        if request["kind"] == "prepare":
            prepare(request["what"], Path(request["target"]))
            say("prepared")
            continue
        children = []
        for _ in range(request.get("processes", 1)):
            pid = os.fork()
            if pid == 0:
                say(f"pid {os.getpid()}")  # by itself, so that it is its first word
                status = 1
                try:
                    act(request)
                    status = 0
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            children.append(pid)
        for child in children:
            _, status = os.waitpid(child, 0)
            say(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
