"""Planes and tiles as streams of bytes: lossless ones, lossy ones for the eye, differences."""

from __future__ import annotations

from polystore._coding import RAW, Codec, Deviation, Encoded, Parameter
from polystore.codecs._blosc2 import Blosc2Codec, Blosc2Compressor
from polystore.codecs._choice import CodecChoice, CodecSpeed, Prediction, choose, measure
from polystore.codecs._delta import DeltaCodec
from polystore.codecs._jpeg import JpegCodec, Subsampling
from polystore.codecs._jpegxl import JpegXlCodec
from polystore.codecs._planes import EarlierPlanes, content_hash
from polystore.codecs._quantized import QuantizedCodec
from polystore.codecs._raw import RawCodec
from polystore.codecs._registry import Codecs, standard_codecs
from polystore.codecs._webp import WebpCodec
from polystore.codecs._zstd import ZstdCodec

__all__ = [
    "RAW",
    "Blosc2Codec",
    "Blosc2Compressor",
    "Codec",
    "CodecChoice",
    "CodecSpeed",
    "Codecs",
    "DeltaCodec",
    "Deviation",
    "EarlierPlanes",
    "Encoded",
    "JpegCodec",
    "JpegXlCodec",
    "Parameter",
    "Prediction",
    "QuantizedCodec",
    "RawCodec",
    "Subsampling",
    "WebpCodec",
    "ZstdCodec",
    "choose",
    "content_hash",
    "measure",
    "standard_codecs",
]
