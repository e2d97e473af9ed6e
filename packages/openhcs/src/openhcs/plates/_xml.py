"""XML from instruments: read piece by piece, by local names, without entities."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, BinaryIO
from xml.etree import ElementTree as ET
from xml.parsers import expat

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from openhcs.plates._findings import FindingLog

__all__ = [
    "Prolog",
    "XmlEntityError",
    "XmlError",
    "XmlTooLargeError",
    "check_size",
    "elements",
    "local_name",
    "members",
    "read_prolog",
    "report_unread",
]

_CHUNK = 16384
_PROLOG_MOST_BYTES = 1 << 20


class XmlError(ValueError):
    """A file is no well-formed XML; the message says where it breaks."""


class XmlEntityError(ValueError):
    """A file declares an entity, which no instrument does; it is not read at all."""


class XmlTooLargeError(XmlError):
    """A file is larger than what it should be can be; it is not read at all."""


class Prolog:
    """The root element of a file: its local name, namespace and attributes."""

    __slots__ = ("attributes", "namespace", "root")

    def __init__(self, name: str, attributes: Mapping[str, str]) -> None:
        space, _, root = name.rpartition("}")
        self.root = root
        self.namespace = space
        self.attributes = dict(attributes)


def local_name(tag: str) -> str:
    """Give a tag without its namespace."""
    return tag.rpartition("}")[2]


def read_prolog(source: Path | bytes) -> Prolog:
    """Read a file as far as its root element, and refuse it if it declares entities.

    Parameters
    ----------
    source
        The file, or what is in it.

    Returns
    -------
    Prolog
        The root element.

    Raises
    ------
    XmlEntityError
        If there is an ``<!ENTITY``; a document type without one is accepted and not fetched.
    XmlError
        If the file breaks before the root element, or has none in its first MiB.
    OSError
        If it cannot be read.
    """
    found: list[Prolog] = []

    def entity(name: str, *_: object) -> None:
        raise XmlEntityError(f"it declares the entity {name!r}")

    def start(name: str, attributes: dict[str, str]) -> None:
        if not found:
            found.append(Prolog(name, attributes))

    parser = expat.ParserCreate(namespace_separator="}")
    parser.EntityDeclHandler = entity
    parser.StartElementHandler = start
    with _opened(source) as file:
        while not found:
            chunk = file.read(_CHUNK)
            if file.tell() > _PROLOG_MOST_BYTES:
                raise XmlError(f"its first {_PROLOG_MOST_BYTES} bytes have no root element")
            try:
                parser.Parse(chunk, not chunk)
            except expat.ExpatError as error:
                if found:
                    break
                raise XmlError(str(error)) from error
            except XmlEntityError:
                raise
            except (LookupError, ValueError) as error:
                raise XmlError(f"its encoding is not understood: {error}") from error
    return found[0]


def check_size(source: Path, most_bytes: int) -> None:
    """Refuse a file that is too large to be what it should.

    Raises
    ------
    XmlTooLargeError
        If it has more bytes.
    OSError
        If it is not there.
    """
    size = source.stat().st_size
    if size > most_bytes:
        raise XmlTooLargeError(f"it has {size} bytes, where {most_bytes} are the most")


def report_unread(findings: FindingLog, path: str, error: Exception) -> None:
    """Name a file that was refused or is damaged.

    Parameters
    ----------
    findings
        Takes ``XML_ENTITY``, ``TOO_LARGE`` or ``METADATA_UNREADABLE``.
    path
        The file, relative to the plate.
    error
        What was raised by one of this module, or by what reads values.
    """
    if isinstance(error, XmlEntityError):
        findings.add("XML_ENTITY", f"{path} was not read: {error}.", path=path)
    elif isinstance(error, XmlTooLargeError):
        findings.add("TOO_LARGE", f"{path} was not read: {error}.", path=path)
    else:
        # the system's own words would have the path a second time, from its root
        why = (error.strerror if isinstance(error, OSError) else None) or error
        findings.add("METADATA_UNREADABLE", f"{path} cannot be read: {why}.", path=path)


def elements(source: Path | bytes) -> Iterator[ET.Element]:
    """Give every element of a file as it ends, children before parents.

    Parameters
    ----------
    source
        A file that `read_prolog` has accepted, or what is in it.

    Yields
    ------
    xml.etree.ElementTree.Element
        Clear it when it has been used, so that memory does not grow with the file.

    Raises
    ------
    XmlError
        Where the file breaks; what came before has been given.
    OSError
        If it cannot be read.

    Notes
    -----
    A file that is no UTF-8 and states no other encoding is read as ISO-8859-1.
    """
    with _opened(source) as file:
        text = io.TextIOWrapper(file, encoding="iso-8859-1") if _is_latin(source) else None
        try:
            for _, element in ET.iterparse(text or file, events=("end",)):
                yield element
        except (ET.ParseError, LookupError, ValueError) as error:
            raise XmlError(str(error)) from error


def members(source: Path, of: str) -> Iterator[ET.Element]:
    """Give the members of a long list in a file, each whole, and at last what else is in the file.

    Parameters
    ----------
    source
        A file that `read_prolog` has accepted.
    of
        Local name of the element that lists them: the root, or a child of it.

    Yields
    ------
    xml.etree.ElementTree.Element
        The members, in order, which nothing holds any more; then the root with all else. Where the
        file breaks, it is the root as far as it goes.

    Raises
    ------
    XmlError
        Where the file breaks; what came before has been given.
    OSError
        If it cannot be read.

    Notes
    -----
    The tree is made without a word to Python, and what is complete is taken off it after each
    16 KiB: `elements`, which gives every element, takes twice as long, and longer pieces do not
    take less, for elements that live longer cost the garbage collector more.
    """
    builder = ET.TreeBuilder()
    holder = builder.start("holder", {})
    encoding = "iso-8859-1" if _is_latin(source) else None
    parser = ET.XMLParser(target=builder, encoding=encoding)
    cut: Exception | None = None
    known = 0
    with _opened(source) as file:
        try:
            while piece := file.read(_CHUNK):
                parser.feed(piece)
                for listing in _lists(holder, of, known):
                    yield from listing[:-1]
                    del listing[:-1]
                known = max((len(root) - 1 for root in holder), default=0)
            parser.close()
        except (ET.ParseError, LookupError, ValueError) as error:
            cut = error
    unended = _cut_open(holder, builder) if cut is not None else set()
    for listing in _lists(holder, of, 0):
        yield from (member for member in listing if member not in unended)
        del listing[:]
    yield from holder
    if cut is not None:
        raise XmlError(str(cut)) from cut


def _lists(holder: ET.Element, of: str, known: int) -> list[ET.Element]:
    """Find the elements of a name in what has been read: the root, or children of it.

    The first `known` children had ended before; what they list was given but for the last.
    """
    there = [*holder, *(child for root in holder for child in root[known:])]
    return [element for element in there if local_name(element.tag) == of]


def _cut_open(holder: ET.Element, builder: ET.TreeBuilder) -> set[ET.Element]:
    """Give the elements that were not ended; the innermost loses its text, a part of which is."""
    mark = builder.start("mark", {})
    around = [holder]
    while around[-1][-1] is not mark:
        around.append(around[-1][-1])
    around[-1].remove(mark)
    around[-1].text = None
    return set(around)


def _opened(source: Path | bytes) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")


def _is_latin(source: Path | bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _opened(source) as file:
        start = file.read(_CHUNK)
        said = start[:200].lower()
        if start[:2] in (b"\xff\xfe", b"\xfe\xff") or (
            b"encoding=" in said.replace(b" ", b"") and b"utf-8" not in said
        ):
            return False  # it says what it is
        try:
            while start:
                decoder.decode(start)
                start = file.read(_PROLOG_MOST_BYTES)
        except UnicodeDecodeError:
            return True
    return False
