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

import imagecodecs  # noqa: F401  # loaded before processes are forked
import numpy as np
import pyarrow.parquet  # noqa: F401  # likewise
import roifile  # noqa: F401  # likewise
import tifffile  # noqa: F401  # likewise
import xxhash  # noqa: F401  # likewise
import zarr  # noqa: F401  # likewise

from polystore import Components, Kind, Payload, Regions, Table
from polystore.backends import DiskStore, ZarrStore
from polystore.files import Checksum, atomic_folder, update_json, write_bytes, write_json
from polystore.formats import write_plane
from polystore.omezarr import (
    ImageMeta,
    ImageSlot,
    ImageWriter,
    LabelPartWriter,
    PartWriter,
    PlateLayout,
    create_image,
    create_labels,
    create_plate,
    extend_plate,
    finish_image,
    finish_labels,
    settle_plate,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE_PX = 96
# more than a chunk, so that a part is several files where each chunk is one
PART_PX = 1030
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
    checksum = not (target / ".zgroup").exists()  # which 0.4 has not
    with ImageWriter(*place, shape, "u2", meta, coarsest_px=64, checksum=checksum) as image:
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


def settle(target: Path, number: int) -> None:
    """Plan what is never written, write an image of another size, and leave the plate settled."""
    extend_plate(target, layout(["A01", "A02", "A03"], ["0", f"planned{number}"]))
    side = SIDE_PX + number % 8 * 8
    meta = ImageMeta(attributes={"number": number})
    with ImageWriter(target, "A01", "0", (1, side, side), "u2", meta, coarsest_px=64) as image:
        image.write_plane(np.full((side, side), number, np.uint16))
        image.commit()
    settle_plate(target)


def write_parts(target: Path, number: int) -> None:
    meta = ImageMeta(attributes={"number": number})
    place = (target, "A01", "0")
    create_image(*place, (1, 90, 90), "u2", meta, part_px=48, coarsest_px=64)
    writer = PartWriter(*place)
    for part in writer.parts:
        writer.write(part, np.full((part.height, part.width), number, np.uint16))
    finish_image(*place)


def write_label_parts(target: Path, number: int) -> None:
    place = (target, "A01", "0", "nuclei")
    create_labels(*place, "u4", part_px=48, attributes={"number": number})
    writer = LabelPartWriter(*place)
    for part in writer.parts:
        writer.write(part, np.full((part.height, part.width), number, np.uint32))
    finish_labels(*place)


def write_part(target: Path, number: int) -> None:
    """Write the one part of an image again."""
    writer = PartWriter(target, "A01", "0")
    writer.write(writer.parts[0], np.full((PART_PX, PART_PX), number, np.uint16))


def write_label_part(target: Path, number: int) -> None:
    writer = LabelPartWriter(target, "A01", "0", "nuclei")
    writer.write(writer.parts[0], np.full((PART_PX, PART_PX), number, np.uint32))


def payload_of(suffix: str, number: int) -> Payload:
    """What a format holds, with its number in the data and, where it can be, beside them."""
    where = Components(well="B03", field=number)
    if suffix == "txt":
        return Payload(data=f"{number}\n" * 5000, kind=Kind.TEXT)
    if suffix == "zip":
        corners = np.array([[0.1, 0.5], [0.5, number], [9.5, 3.5]])
        return Payload(
            data=Regions.from_polygons([corners] * 50), kind=Kind.REGIONS, components=where
        )
    if suffix in {"csv", "parquet"}:
        rows = Table({"number": np.full(5000, number), "name": (f"cell {number}",) * 5000})
        return Payload(data=rows, kind=Kind.TABLE, components=where)
    return Payload(data=NOISE + np.uint16(number), components=where, name="raw")


def store_as(suffix: str) -> Callable[[Path, int], None]:
    return lambda target, number: DiskStore(target).store(f"a.{suffix}", payload_of(suffix, number))


SUFFIXES = ("npy", "tif", "ome.tif", "png", "csv", "parquet", "json", "zip", "txt")
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
    "settled plate": settle,
    "image parts": write_parts,
    "label parts": write_label_parts,
    "part again": write_part,
    "label part again": write_label_part,
    **{f"key.{suffix}": store_as(suffix) for suffix in SUFFIXES},
}
OF_PLATES = {
    each for each in WRITERS if each.startswith(("image", "label", "plate", "settled", "part"))
}
WRITERS |= {f"{each} of 0.4": WRITERS[each] for each in OF_PLATES}


def layout(wells: list[str], images: list[str]) -> PlateLayout:
    return PlateLayout.regular("p", rows=2, columns=12, wells=wells, images=images)


def prepare(kind: str, target: Path) -> None:
    if kind == "update":
        write_json(target, {"number": 0, "again": [0]})
        return
    what, old, _ = kind.partition(" of 0.4")
    if what in OF_PLATES:
        images = ["field0"] if what == "plate" else ["0"]
        version = "0.4" if old else "0.5"
        create_plate(target, layout(["A01", "A02"], images), version=version)
    if what in {"labels", "label parts"}:
        write_image(target, 0)
    if what == "settled plate":
        with ImageWriter(target, "A02", "0", (1, SIDE_PX, SIDE_PX), "u2", coarsest_px=64) as image:
            image.write_plane(NOISE)
            image.commit()
        labels = NOISE.astype(np.uint32)
        write_labels(target, "A02", "0", "nuclei", labels)
    if what in {"part again", "label part again"}:
        create_image(target, "A01", "0", (1, PART_PX, PART_PX), "u2")
        write_part(target, 0)
        finish_image(target, "A01", "0")
    if what == "label part again":
        create_labels(target, "A01", "0", "nuclei", "u4")
        write_label_part(target, 0)
        finish_labels(target, "A01", "0", "nuclei")
    if what != "plate":
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
