"""Where a payload comes from."""

from __future__ import annotations

from dataclasses import dataclass

from polystore._errors import PayloadError

__all__ = ["SOURCES_MOST", "Provenance"]

SOURCES_MOST = 1024
"""Most sources of one payload."""

_TEXT_MOST = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a payload was made of, and by which software.

    The run and the step that made it are the payload's `run` and its component ``step``.

    Attributes
    ----------
    sources
        Keys of what it was made of, as files or stored payloads are called.
    software
        Name and version of what made it, as ``"openhcs 0.1.0"``; None when it is not known.

    Raises
    ------
    PayloadError
        If a text is empty or longer than 1024 characters, or there are more than 1024 sources.
    """

    sources: tuple[str, ...] = ()
    software: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.sources, str):
            raise PayloadError(f"sources are a tuple of keys, not one text: {self.sources!r}")
        sources = tuple(self.sources)
        if len(sources) > SOURCES_MOST:
            raise PayloadError(f"{len(sources)} sources are more than {SOURCES_MOST}")
        for text in (*sources, *(() if self.software is None else (self.software,))):
            if type(text) is not str or not 0 < len(text) <= _TEXT_MOST:
                raise PayloadError(
                    f"sources and software have to be text of 1 to {_TEXT_MOST} characters: "
                    f"{text!r:.80}"
                )
        object.__setattr__(self, "sources", sources)
