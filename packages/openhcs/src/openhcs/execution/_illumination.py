"""The illumination that a run learned, taken out of its results for other plates."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from openhcs._errors import ResultFolderError
from openhcs.execution._folder import ResultFolder
from openhcs.execution._run_record import load_run
from openhcs.functions import SavedProfile, write_profile

__all__ = ["save_illumination"]

_KEPT = ("source", "confidence", "fields", "dark_source")


def save_illumination(
    results: str | Path, path: str | Path, *, channel: str, step: str = "correct_illumination"
) -> SavedProfile:
    """Save the illumination of a channel that a run learned, to be used on another plate.

    Parameters
    ----------
    results
        The result folder of the run.
    path
        File to write, a TIFF.
    channel
        Name of the channel.
    step
        Name of the step that learned it.

    Returns
    -------
    SavedProfile
        What was written.

    Raises
    ------
    ResultFolderError
        If the folder holds no such run, or no such step or channel of it, or the step divided by
        no profile.
    NotWrittenError
        If the file cannot be written.
    """
    folder = ResultFolder(Path(results))
    record = load_run(results)
    note = folder.read_prepared(step)
    channels = note.get("channels", {}) if note else {}
    numbers = note.get("numbers", {}) if note else {}
    if channel not in channels or channel not in numbers:
        there = ", ".join(numbers) or "nothing"
        message = f"{results}: step {step} learned nothing of {channel!r}, but of {there}"
        raise ResultFolderError(message)
    place = folder.prepared / step / str(numbers[channel])
    if not (place / "flat.npy").is_file():
        message = f"{results}: {channel} was left as it is, {channels[channel].get('why', '')}"
        raise ResultFolderError(message)
    profile = SavedProfile(
        flat=np.load(place / "flat.npy", allow_pickle=False),
        dark=float(np.load(place / "dark.npy", allow_pickle=False)),
        provenance={
            **{key: channels[channel].get(key) for key in _KEPT},
            "channel": channel,
            "plate": record.plate.name,
            "run": record.run_id,
        },
    )
    write_profile(path, profile)
    return profile
