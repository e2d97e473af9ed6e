"""Planes and tiles through codecs: what each makes of noise, of smooth fields and of labels.

The fields are made here: cells in Poisson and read noise, the smooth illumination of an empty
field, labels of the cells, and a rendered view of them. A process's own seconds count, so that
whatever else the computer does falls on nobody; the limit of a speed is a copy of the memory.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
from _rows import Row

from polystore import Kind, Payload, encode
from polystore.codecs import (
    Blosc2Codec,
    Blosc2Compressor,
    DeltaCodec,
    EarlierPlanes,
    JpegCodec,
    JpegXlCodec,
    QuantizedCodec,
    RawCodec,
    Subsampling,
    WebpCodec,
    ZstdCodec,
    choose,
    measure,
    standard_codecs,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from polystore.codecs import Codec

__all__ = ["rows"]

SIDE = 2048
LOSSLESS: tuple[Codec, ...] = (
    Blosc2Codec(Blosc2Compressor.LZ4),
    Blosc2Codec(Blosc2Compressor.ZSTD),
    JpegXlCodec(),
    ZstdCodec(),
)
VIEWS: dict[str, Codec] = {
    "JPEG 85 4:4:4": JpegCodec(85, measured=False),
    "JPEG 85 4:2:0": JpegCodec(85, subsampling=Subsampling.BOTH),
    "WebP 75 method 0": WebpCodec(75),
}
COMPARED = "none; shown for comparison"


@dataclass(frozen=True)
class Speed:
    """One codec on one field: medians."""

    ratio: float
    encode_mb_s: float
    decode_mb_s: float


def rows(repeats: int = 5) -> list[Row]:
    """Measure and return the rows of codecs; medians of `repeats`."""
    fields = make_fields(SIDE)
    view = make_view(fields["noisy"])
    return [
        *_lossless(fields, repeats),
        *_compared(fields, repeats),
        *_quantized(fields["noisy"], repeats),
        *_views(view, repeats),
        *_deltas(fields, repeats),
        *_wire(fields["noisy"], repeats),
        _choice(fields["noisy"]),
    ]


def make_fields(side: int) -> dict[str, NDArray[np.uint16]]:
    """Make one field of each kind."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    light = np.full((side, side), 100, np.float32)
    labels = np.zeros((side, side), np.uint16)
    for number in range(1, side * side // 16_000 + 1):
        row, column = rng.uniform(0, side, 2)
        radius = rng.uniform(8, 18)
        reach = int(3 * radius)
        part = np.s_[
            max(0, int(row) - reach) : int(row) + reach,
            max(0, int(column) - reach) : int(column) + reach,
        ]
        away = ((y[part] - row) ** 2 + (x[part] - column) ** 2) / (2 * radius**2)
        light[part] += rng.uniform(200, 2000) * np.exp(-away)
        labels[part][away < 1] = number
    counts = rng.poisson(light / 2) * 2 + rng.normal(100, 1.6, light.shape)
    middle = ((y - side / 2) ** 2 + (x - side / 2) ** 2) / (0.8 * side) ** 2
    return {
        "noisy": counts.clip(0, 65535).round().astype(np.uint16),
        "smooth": (20_000 * np.exp(-middle) + 1000).round().astype(np.uint16),
        "labels": labels,
    }


def make_view(plane: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Make a frame of 1920 x 1080 as a viewer renders it: three colours of the same field."""
    grey = ((plane[:1080, :1920].astype(np.float32) - 150) / 6).clip(0, 255).astype(np.uint8)
    return np.dstack([grey, np.roll(grey, 40, axis=1) // 2, grey // 3 + 10])


def _median(act: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        act()
        taken.append(time.process_time() - start)
    return max(statistics.median(taken), 1e-9)


def _speed(codec: Codec, array: NDArray[Any], repeats: int) -> Speed:
    encoded = codec.encode(array)
    return Speed(
        array.nbytes / encoded.stream.nbytes,
        array.nbytes / _median(lambda: codec.encode(array), repeats) / 1e6,
        array.nbytes / _median(lambda: codec.decode(encoded), repeats) / 1e6,
    )


def _copy_mb_s(array: NDArray[Any], repeats: int) -> float:
    return array.nbytes / _median(array.copy, repeats) / 1e6


def _lossless(fields: dict[str, NDArray[np.uint16]], repeats: int) -> list[Row]:
    found = []
    for kind, plane in fields.items():
        copy = _copy_mb_s(plane, repeats)
        for codec in LOSSLESS:
            speed = _speed(codec, plane, repeats)
            name = f"{codec.id}, {kind} {SIDE} x {SIDE} uint16"
            found.append(_row(f"{name}: times smaller", speed.ratio, "x", "> 1", speed.ratio > 1))
            for what, mb_s in (("encode", speed.encode_mb_s), ("decode", speed.decode_mb_s)):
                found.append(
                    Row(f"{name}: {what}", mb_s, "MB/s", copy, mb_s / copy, COMPARED, met=True)
                )
    return found


def _quantized(plane: NDArray[np.uint16], repeats: int) -> list[Row]:
    """Planes of 16 bits to look at, rounded to parts of their noise."""
    found = []
    lossless = _speed(JpegXlCodec(), plane, repeats)
    for step in (0.5, 1.0):
        codec = QuantizedCodec(step)
        speed, deviation = _speed(codec, plane, repeats), codec.encode(plane).deviation
        assert deviation is not None
        name = f"{codec.id} in steps of {step} of the noise"
        gained = speed.ratio / lossless.ratio
        found += [
            _row(f"{name}: times smaller", speed.ratio, "x"),
            _row(f"{name}: times smaller than jpegxl", gained, "x", "> 1", gained > 1),
            _row(f"{name}: encode", speed.encode_mb_s, "MB/s"),
            _row(f"{name}: decode", speed.decode_mb_s, "MB/s"),
            _row(f"{name}: largest error", deviation.largest, "counts"),
            _row(f"{name}: error, root mean square", deviation.mean_square**0.5, "counts"),
        ]
    return found


def _compared(fields: dict[str, NDArray[np.uint16]], repeats: int) -> list[Row]:
    """What imagecodecs has besides, and why it is not among ours: the same fields, bare."""
    others: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
        "bare JPEG-LS": (imagecodecs.jpegls_encode, imagecodecs.jpegls_decode),
        "bare LZ4": (
            imagecodecs.lz4_encode,
            lambda stream: imagecodecs.lz4_decode(stream, out=SIDE * SIDE * 2),
        ),
        "bare blosc2 ZSTD bitshuffle": (
            lambda plane: imagecodecs.blosc2_encode(
                plane, level=1, compressor="zstd", shuffle="bitshuffle", typesize=2, numthreads=1
            ),
            lambda stream: imagecodecs.blosc2_decode(stream, numthreads=1),
        ),
        "bare JPEG XL": (
            lambda plane: imagecodecs.jpegxl_encode(plane, lossless=True, effort=1, numthreads=1),
            lambda stream: imagecodecs.jpegxl_decode(stream, index=0, numthreads=1),
        ),
    }
    found = []
    for kind in ("noisy", "smooth"):
        plane = fields[kind]
        for name, (encode_bare, decode_bare) in others.items():
            stream = encode_bare(plane)
            label = f"{name}, {kind}"
            found.append(_row(f"{label}: times smaller", plane.nbytes / len(stream), "x", COMPARED))
            for what, act in (
                ("encode", lambda plane=plane, act=encode_bare: act(plane)),
                ("decode", lambda stream=stream, act=decode_bare: act(stream)),
            ):
                mb_s = plane.nbytes / _median(act, repeats) / 1e6
                found.append(_row(f"{label}: {what}", mb_s, "MB/s", COMPARED))
    return found


def _views(view: NDArray[np.uint8], repeats: int) -> list[Row]:
    measured: dict[str, Codec] = {
        "JPEG 85 4:4:4": JpegCodec(85, measured=True),
        "JPEG 85 4:2:0": JpegCodec(85, subsampling=Subsampling.BOTH, measured=True),
        "WebP 75 method 0": WebpCodec(75, measured=True),
    }
    tiles = [view[top : top + 256, left : left + 256] for top in range(0, 1080, 256)
             for left in range(0, 1920, 256)]  # fmt: skip
    found = []
    for name, codec in VIEWS.items():
        encoded = measured[name].encode(view)
        assert encoded.deviation is not None
        frame = f"{name}, 1920 x 1080 RGB"
        found += [
            _row(f"{frame}: encode", _median(partial(codec.encode, view), repeats) * 1e3, "ms"),
            _row(f"{frame}: decode", _median(partial(codec.decode, encoded), repeats) * 1e3, "ms"),
            _row(f"{frame}: size", encoded.stream.nbytes / 1024, "KiB"),
            _row(
                f"{frame}: PSNR",
                encoded.deviation.psnr_db,
                "dB",
                ">= 35",
                encoded.deviation.psnr_db >= 35,
            ),
            _row(f"{frame}: largest error", encoded.deviation.largest, "of 255"),
            _row(
                f"{frame}: encode as {len(tiles)} tiles",
                _median(partial(_each, codec, tiles), repeats) * 1e3,
                "ms",
            ),
        ]
    return found


def _each(codec: Codec, tiles: list[NDArray[np.uint8]]) -> None:
    for tile in tiles:
        codec.encode(tile)


def _deltas(fields: dict[str, NDArray[np.uint16]], repeats: int) -> list[Row]:
    """One eighth of the rows of a frame anew; a label moved."""
    rng = np.random.default_rng(1)
    noisy = fields["noisy"].copy()
    noisy[SIDE // 2 : SIDE // 2 + SIDE // 8] = rng.poisson(300, (SIDE // 8, SIDE))
    labels = fields["labels"].copy()
    labels[100:160, 100:300] = np.roll(labels[100:160, 100:300], 3, axis=1)
    whole = Blosc2Codec(Blosc2Compressor.ZSTD)
    found = []
    for name, before, plane in (
        ("frame with 1/8 of its rows new", fields["noisy"], noisy),
        ("labels of which a few moved", fields["labels"], labels),
    ):
        planes = EarlierPlanes()
        codec = DeltaCodec(planes, planes.add(before))
        encoded = codec.encode(plane)
        alone = whole.encode(plane).stream.nbytes
        share = encoded.stream.nbytes / alone
        found += [
            Row(f"delta-xor, {name}: size", encoded.stream.nbytes / 1024, "KiB", alone / 1024,
                share, "ratio <= 0.5 of the whole plane by blosc2-zstd", share <= 0.5),
            _row(f"delta-xor, {name}: whether it gains",
                 _median(partial(codec.gains, plane), repeats) * 1e3, "ms"),
            _row(f"delta-xor, {name}: encode",
                 _median(partial(codec.encode, plane), repeats) * 1e3,
                 "ms"),
            _row(f"delta-xor, {name}: decode",
                 _median(partial(codec.decode, encoded), repeats) * 1e3, "ms"),
        ]  # fmt: skip
    return found


def _wire(plane: NDArray[np.uint16], repeats: int) -> list[Row]:
    """What the frames cost beside the bare library, and beside nothing."""
    payload = Payload(data=plane, kind=Kind.IMAGE)
    turns = 2000
    header = _median(lambda: [encode(payload) for _ in range(turns)], repeats) / turns
    raw = RawCodec()
    chosen = _median(lambda: [encode(payload, codec=raw) for _ in range(turns)], repeats) / turns
    codec = Blosc2Codec(Blosc2Compressor.LZ4)
    framed, bare = [], []
    for _ in range(repeats):  # in turns, so that whatever else happens falls on both
        framed.append(_median(lambda: encode(payload, codec=codec), 3))
        bare.append(
            _median(
                lambda: imagecodecs.blosc2_encode(
                    plane.data,  # type: ignore[arg-type]  # any buffer is taken
                    level=1,
                    compressor="lz4",
                    shuffle="bitshuffle",
                    typesize=2,
                    numthreads=1,
                ),
                3,
            )
        )
    ours, library = statistics.median(framed), statistics.median(bare)
    return [
        _row("header of a raw plane, no pixel copied", header * 1e6, "us", "<= 20",
             header * 1e6 <= 20),
        _row("the same by the codec raw", chosen * 1e6, "us", "<= 20", chosen * 1e6 <= 20),
        Row("encode(payload, codec=blosc2-lz4)", ours * 1e3, "ms", library * 1e3, ours / library,
            "ratio <= 1.5 of the bare library: a checksum and a copy", ours / library <= 1.5),
    ]  # fmt: skip


def _choice(plane: NDArray[np.uint16]) -> Row:
    """From what was measured: up to which link the smallest stream is the quickest."""
    speeds = measure(standard_codecs(), plane[:512, :512], time.perf_counter)
    start = time.process_time()
    turns = 1000
    for _ in range(turns):
        choose(speeds, link_bytes_per_s=1e8, nbytes=plane.nbytes)
    taken = (time.process_time() - start) / turns
    links = [10 ** (exponent / 10) for exponent in range(50, 110)]
    chosen = {
        choose(speeds, link_bytes_per_s=link, nbytes=plane.nbytes).codec: link for link in links
    }
    last = ", ".join(
        f"{name} to {'any' if math.isclose(link, links[-1]) else f'{link / 1e6:.3g} MB/s'}"
        for name, link in chosen.items()
    )
    return _row(f"choice of a codec ({last})", taken * 1e6, "us", "<= 200", taken * 1e6 <= 200)


def _row(name: str, value: float, unit: str, target: str = COMPARED, met: bool = True) -> Row:
    return Row(name, value, unit, None, None, target, met)
