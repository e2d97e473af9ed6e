"""Recognising a plate by what its images are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openhcs.plates.formats._protocol import Lack, Match, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from openhcs.plates._scan import Listing, ScannedFile

__all__ = ["verdict_by_names"]

_DEPTH = 3


def verdict_by_names(
    listing: Listing, fits: Callable[[ScannedFile], bool], *, like: str, whose: str
) -> Verdict:
    """Say whether images are called so that one format knows them.

    Parameters
    ----------
    listing
        All files; those up to three folders down are looked at.
    fits
        Whether a file is called so.
    like
        An example of such a name.
    whose
        How they are called, to follow "is named".

    Returns
    -------
    Match | Lack
        A match of certainty 1, with a plate for each folder that holds such images.
    """
    named = [file for file in listing.files if file.path.count("/") <= _DEPTH and fits(file)]
    if not named:
        return Lack(f"no images named like {like}")
    return Match(
        certainty=1,
        why=f"{named[0].path} is named {whose}",
        plates=tuple(sorted({file.folder for file in named})),
    )
