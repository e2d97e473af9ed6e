"""Which codec is quickest over a link, from what was measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from polystore._coding import RAW
from polystore._errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from polystore._coding import Codec

__all__ = ["CodecChoice", "CodecSpeed", "Prediction", "choose", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecSpeed:
    """What one codec does with planes of one kind, on one computer.

    Attributes
    ----------
    codec
        Its id.
    ratio
        Bytes of the plane by bytes of the stream.
    encode_mb_s, decode_mb_s
        Millions of bytes of the plane per second; infinite where nothing is done.
    lossy
        Whether what comes back may differ.
    """

    codec: str
    ratio: float
    encode_mb_s: float
    decode_mb_s: float
    lossy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """How long one plane takes with one codec, in s.

    Attributes
    ----------
    codec
        Its id.
    encode, transfer, decode
        Each stage by itself.
    counted
        What counts: the sum of the three while the queue is short, and the longest of them while
        it grows, because then the stages work on different planes at the same time.
    """

    codec: str
    encode: float
    transfer: float
    decode: float
    counted: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecChoice:
    """A codec that was chosen, and why.

    Attributes
    ----------
    codec
        Its id.
    predictions
        Of all that were considered, the quickest first.
    link_bytes_per_s, nbytes, queue_grows, preview
        What it was chosen for.
    kept
        Whether another was quicker, by too little to change for it.
    """

    codec: str
    predictions: tuple[Prediction, ...]
    link_bytes_per_s: float
    nbytes: int
    queue_grows: bool
    preview: bool
    kept: bool

    def __str__(self) -> str:
        """Say it in one sentence."""
        rule = "slowest stage, the queue grows" if self.queue_grows else "sum, the queue is short"
        others = ", ".join(f"{each.codec} {each.counted * 1e3:.3g} ms" for each in self.predictions)
        kept = ", kept because it is nearly the quickest" if self.kept else ""
        return (
            f"{self.codec}{kept}: {self.nbytes} bytes over {self.link_bytes_per_s:.3g} bytes/s "
            f"take ({rule}) {others}"
        )


def measure(
    codecs: Iterable[Codec],
    sample: NDArray[Any],
    clock: Callable[[], float],
    *,
    repeats: int = 3,
) -> tuple[CodecSpeed, ...]:
    """Measure what codecs do with a sample.

    Parameters
    ----------
    codecs
        Those of a `Codecs`, for instance; those that do not take the sample are left out.
    sample
        A plane as they will be sent: the ratio is its own. A quarter of a megapixel is enough.
    clock
        Gives seconds; `time.perf_counter`.
    repeats
        The quickest of so many counts.

    Raises
    ------
    ValueError
        If nothing is to be repeated.
    MissingExtraError
        If the library that does the work is not installed.
    StreamError
        If a codec cannot read what it wrote.
    """
    if repeats < 1:
        raise ValueError(f"measuring takes one repeat at least, not {repeats}")
    found = []
    for codec in codecs:
        if not codec.takes(sample.dtype, sample.shape):
            continue
        encode, decode = math.inf, math.inf
        for _ in range(repeats):
            start = clock()
            encoded = codec.encode(sample)
            between = clock()
            codec.decode(encoded)
            encode = min(encode, between - start)
            decode = min(decode, clock() - between)
        raw = codec.id == RAW  # refers to the bytes as they are
        found.append(
            CodecSpeed(
                codec=codec.id,
                ratio=sample.nbytes / max(1, encoded.stream.nbytes),
                encode_mb_s=math.inf if raw or encode <= 0 else sample.nbytes / encode / 1e6,
                decode_mb_s=math.inf if raw or decode <= 0 else sample.nbytes / decode / 1e6,
                lossy=codec.lossy,
            )
        )
    return tuple(found)


def choose(
    speeds: Sequence[CodecSpeed],
    *,
    link_bytes_per_s: float,
    nbytes: int,
    queue_grows: bool = False,
    preview: bool = False,
    before: CodecChoice | None = None,
    margin: float = 0.15,
) -> CodecChoice:
    """Choose the codec with which one plane is there soonest.

    Parameters
    ----------
    speeds
        As `measure` gave them; with the other end's own decoding speed where that is known.
    link_bytes_per_s
        What the link carries, as measured; infinite for none.
    nbytes
        Bytes of a plane.
    queue_grows
        Whether planes are made faster than they leave. While they are not, a plane's own way
        counts: encode, transfer and decode together. While they are, the slowest stage does.
    preview
        Whether lossy codecs may be chosen; never without.
    before
        What was chosen before; it is kept unless another is quicker by `margin`, so that a link
        that wavers does not change the codec with each plane.
    margin
        Part of the former's time that has to be saved to change.

    Raises
    ------
    CodecError
        If no codec may be chosen.
    ValueError
        If a number is not above 0.

    Notes
    -----
    Pure: the same arguments give the same choice. When two are equally quick the earlier in
    `speeds` is chosen.
    """
    if not link_bytes_per_s > 0 or nbytes < 0 or not 0 <= margin < 1:
        raise ValueError(
            f"a link of {link_bytes_per_s} bytes/s, {nbytes} bytes and a margin of {margin} are no "
            "ground for a choice"
        )
    for speed in speeds:
        if not (speed.ratio > 0 and speed.encode_mb_s > 0 and speed.decode_mb_s > 0):
            raise ValueError(f"what was measured has to be above 0: {speed}")
    allowed = [speed for speed in speeds if preview or not speed.lossy]
    if not allowed:
        raise CodecError(
            f"none of {[speed.codec for speed in speeds]} may be chosen: lossy ones are for "
            "previews only"
        )
    predictions = sorted(
        (_predict(speed, link_bytes_per_s, nbytes, queue_grows=queue_grows) for speed in allowed),
        key=lambda each: each.counted,
    )
    chosen = predictions[0]
    if before is not None:
        former = next((each for each in predictions if each.codec == before.codec), None)
        if former is not None and chosen.counted >= former.counted * (1 - margin):
            chosen = former
    return CodecChoice(
        codec=chosen.codec,
        predictions=tuple(predictions),
        link_bytes_per_s=link_bytes_per_s,
        nbytes=nbytes,
        queue_grows=queue_grows,
        preview=preview,
        kept=chosen is not predictions[0],
    )


def _predict(
    speed: CodecSpeed, link_bytes_per_s: float, nbytes: int, *, queue_grows: bool
) -> Prediction:
    stages = (
        nbytes / (speed.encode_mb_s * 1e6),
        nbytes / speed.ratio / link_bytes_per_s,
        nbytes / (speed.decode_mb_s * 1e6),
    )
    return Prediction(
        codec=speed.codec,
        encode=stages[0],
        transfer=stages[1],
        decode=stages[2],
        counted=max(stages) if queue_grows else sum(stages),
    )
