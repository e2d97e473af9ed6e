"""Selections that ImageJ 1.53t itself drew and wrote: what is read of them covers its own pixels.

Each is the output of ``ij.io.RoiEncoder``, packed, with the number of the pixels of 32 x 32 that
``ij.gui.Roi.contains`` says are inside, and the CRC-32 of these, eight to a byte.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from polystore.rois import from_rois, to_rois

if TYPE_CHECKING:
    from polystore import Regions

WRITTEN = {
    "donut": (
        "polygon",
        218,
        1598369618,
        "eNqN0qESgzAMBuB/sPmJ3c3yJqNyb4GYHgZ8JXI3hUROTk4i9xgIHmQNpNckh1jvCt9BGtKSa902mHfAHjlO"
        "OGN7PLcfZx1dXRXmEbh4dsWGcYgp/brSFauXd+RhdTkZj+zReGIP2vSdxd64YJfGlYiR9iKndJdqUH6kmpX7"
        "tEdl3iPlVo4xvTHnpFhlrsG9jOPZvo3j//gYFyJGGiKncDxzNxiPqWZlsUdln3qCGirMHNSNyL7hfsC/44Ya"
        "d7RofosxdDk=",
    ),
    "ellipse": (
        "ellipse",
        246,
        1003610957,
        "eNqNk30s1VEYx497r3fiumhU62UlpWx5mdYmz1fUVUKZTK2RsWLmqqj1IrdsXiPCnbdEWl6uNG6RSoaxm6g1"
        "W9NotUZbLcsfFmVL5/5yi/7qfHZ2zm/nnOf5nPM7J0CRkszGjRkTMwmzZ45MTtWM6Sq0vPL2nyJmSp+/H9XM"
        "jmPLkTEbjpRZMyvOMmbJLJg5M2OmzIQZMyOOIc8g5og4BgL6YrCAbkTnIeFzjfgqY77WlMcw57EseUwrHt2a"
        "57Dh2WRCVjsB+wV0fakwrke2qC8V7Bb76Q2XOkoWHEV/vAwWOeotxYLlUk+96W9Xna1UOMU+2zZ0F/mg80oi"
        "Hn7eBs3weTTL3VEf6oKa+TlUHJ5F8Ukb5AX3IEMyiVTvfCSGn0VkcgVCWubguyUCHjyOkzwPDms6YHFrI9jE"
        "VvpicIhGZBrqd/ajtmPTVP/uEt147EElZoOU/86dcv0UlIMMyh1RUIGRLal6goS/q77rTB0aQ3r2bQ+NhXvT"
        "VKsDxIoyWEWosZKZYdNeKbxWvYV/1EWEfnNCdM8pnKzPhtK/FZl1IuR/GoaK+1SOPkKtohYNzZO4lxeH+/ON"
        "6JiT4WnKV/QcT0efdi20he4Y6NyPQb7fIddxDCluYsh0HM9/XsBAcILuhqHW1wh3TF6gPmgSjVYzUMuVUPO8"
        "TcvLoG5SofHBVzR4pqPOlXD7tiNqKkWoWvEB5ZtzUPJSjUJZF67yOBlVB6H87oYzXt6IX2eBowOHcYDn9dPM"
        "YLuTM1zad2B12gnIVGkw4ef2w3GCJtwS6ZWqi7oSzah5tFU4n+szHylzTEupWcWkUMop9omYooIGKXKXF0VX"
        "BFJ8SBadCf1I6bvnKU9RRmXXZqmu4By1h70mbXcYjbZIaIr7iHqPYJllJRy0vdjwdhpunnews30I+wJNEf5m"
        "BDHyfiQpS3Ex7jLS+X6zz+1BviYGReUhKF2fisoA2cILEQkvj/E7x8TveWvM/rfEsgROHEtip1nsLztuBs0=",
    ),
    "oval": (
        "ellipse",
        72,
        3234373501,
        "eNrzzC8tYXjCxMDAxsDKwMcgwEAacIDSQAMYmIGYBYgboDRxIJ+hjCGRIQcAm1YFMA==",
    ),
    "points": (
        "point",
        3,
        811195513,
        "eNrzzC8tYXjCxcDAwsDMIMrABSTRASMavwGJncIA0skGJgUcHBgYHB4wMDgKAGmgKkegsOMCuFomIGYGq2Rg"
        "WALEbAy4wQYUXgFDPkMmQx5DCUMxsjAAdx0Ljw==",
    ),
    "polygon": (
        "polygon",
        317,
        2859038919,
        "eNrzzC8tYXjCwMDAzMDEIMcgC6QJgQYkdgoQSzGwA0lWBikHBQYGx0dALMPA4JAApDmA+A1cLRPYFgYGFiBe"
        "AsTsDMSCAoZ8hhyGSoZ0IJ0HABHgC58=",
    ),
    "turned": (
        "rectangle",
        188,
        2134995670,
        "eNrzzC8tYXjCzsDABITiDFIMrA4LGBgcDjAwOIIwkI0GWBkaHBG8GiBfgkGEgRFIMzLwM4gysDMwOrx++8nx"
        "0u9ax7UszQ4aKjIgvoPh8zuObTZ/HHceZnEUbuME8aFmMAExMxCzAPEeIGZjIBaUMJQyFDHkMaQypAAAZKgf"
        "Uw==",
    ),
    "two": (
        "polygon",
        67,
        3453580705,
        "eNrzzC8tYXjCyMDACIRCDIIM2IEUDvEVIMK+ARU7HEDQyGww3QDR6KgAxA4QMTB7ApTdgcZ2QOgBAiYgZgZi"
        "FiB+AWUTB0oYyhnyAdKfF6o=",
    ),
}


def covered(read: Regions) -> tuple[int, int]:
    """Count the pixels of a region, and sum them up."""
    image = read.to_labels((32, 32), np.uint8) > 0
    return int(image.sum()), zlib.crc32(np.packbits(image.ravel()).tobytes())


def unpacked(name: str) -> bytes:
    """What ImageJ wrote."""
    return zlib.decompress(base64.b64decode(WRITTEN[name][3]))


@pytest.mark.parametrize("name", sorted(WRITTEN))
def test_what_imagej_wrote_covers_the_pixels_that_it_does_there(name: str) -> None:
    kind, pixels, checksum, _ = WRITTEN[name]
    read = from_rois([unpacked(name)])
    assert [region.kind for region in read] == [kind]
    assert covered(read) == (pixels, checksum)
    assert read.properties["name"] == (name,)
    assert [np.asarray(read.properties[axis]).tolist() for axis in ("channel", "z", "t")] == [
        [1],
        [2],
        [3],
    ]
    again = from_rois(to_rois(read))
    assert again.properties == read.properties
    assert covered(again) == (pixels, checksum)
