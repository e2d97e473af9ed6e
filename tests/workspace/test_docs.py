"""What the documentation names is there: files, pictures, pages, commands and their options."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from openhcs import functions
from openhcs.cli._main import make_parser as openhcs_parser
from openhcs.functions import REGISTRY
from openhcs.plates import CODES, format_names
from openhcs.testing.formats import LAYOUTS
from zmqruntime._cli._main import make_parser as zmqruntime_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "packages").glob("*/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^\s*(?:\$ )?(?:(?:uvx )?hatch run )?((?:openhcs|zmqruntime) (?=\S)[^\n#>]+)", re.MULTILINE
)
CODE = re.compile(r"`(?:(?:uvx )?hatch run )?((?:openhcs|zmqruntime) [^`]+)`", re.DOTALL)
OPTION = re.compile(r"`(--[a-z][a-z-]*)[^`]*`")
OTHERS = {"--help", "--version", "--only"}  # the last is of `hatch run bench:transport`


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _parser_of(program: str) -> argparse.ArgumentParser:
    return openhcs_parser() if program == "openhcs" else zmqruntime_parser()


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found


def _options(parser: argparse.ArgumentParser) -> set[str]:
    own = {text for action in parser._actions for text in action.option_strings}
    return own.union(*map(_options, _subparsers(parser).values()))


def _commands(page: Path) -> list[list[str]]:
    text = page.read_text(encoding="utf-8")
    shells = "\n".join(block[2] for block in FENCE.finditer(text) if block[1] in ("bash", "sh"))
    prose = FENCE.sub("", text)
    indented = "\n".join(line for line in prose.splitlines() if line.startswith("    "))
    lines = [*COMMAND.findall(shells), *COMMAND.findall(indented), *CODE.findall(prose)]
    return [shlex.split(line.replace("\\\n", " "), comments=True) for line in lines]


PLACEHOLDERS = {"PORT": "5555", "HOST:PORT": "localhost:5555"}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = [target.partition("#")[0] for target in LINK.findall(text) if ":" not in target]
    missing = [target for target in targets if target and not (page.parent / target).is_file()]
    assert not missing


def test_every_page_stands_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"^ +- [^:\n]+: (\S+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", [page for page in PAGES if _commands(page)], ids=_name)
def test_commands_are_ones_that_the_parser_takes(page: Path) -> None:
    refused = [problem for words in _commands(page) if (problem := _refused(words))]
    assert not refused


def _refused(words: list[str]) -> str | None:
    """Say what is wrong with a command; one that a sentence only names needs no arguments."""
    program, *words = words
    if words[0] == "COMMAND":
        return None
    parser, rest = _parser_of(program), list(words)
    while rest and rest[0] in _subparsers(parser):
        parser = _subparsers(parser)[rest.pop(0)]
    if not rest and len(words) > len(rest):
        return None
    try:
        _parser_of(program).parse_args([PLACEHOLDERS.get(word, word.strip("[]")) for word in words])
    except (argparse.ArgumentError, SystemExit) as error:
        return f"{program} {' '.join(words)}: {error}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_exist(page: Path) -> None:
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    known = _options(openhcs_parser()) | _options(zmqruntime_parser())
    assert set(OPTION.findall(prose)) - OTHERS <= known


@pytest.mark.parametrize(
    ("program", "name"), [("openhcs", "command-line"), ("zmqruntime", "zmqruntime-command")]
)
def test_every_command_and_option_is_documented(program: str, name: str) -> None:
    page = (DOCS / "reference" / f"{name}.md").read_text(encoding="utf-8")
    parser = _parser_of(program)
    unnamed = [name for name in _subparsers(parser) if f"{program} {name}" not in page]
    unnamed += [o for o in _options(parser) if o.startswith("--") and f"`{o}" not in page]
    assert not set(unnamed) - OTHERS


def test_every_finding_is_documented() -> None:
    page = (DOCS / "guides" / "formats.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (\w+) \|", page, re.MULTILINE))
    assert rows == {code: severity for code, (severity, _) in CODES.items()}


def test_every_format_is_in_the_tables_of_the_guides() -> None:
    guide = (DOCS / "guides" / "formats.md").read_text(encoding="utf-8")
    recognised, read = (table.split("\n\n")[0] for table in guide.split("\n| format | ")[1:])
    for table in (recognised, read):
        assert set(re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)) == set(format_names())
    guide = (DOCS / "guides" / "synthetic.md").read_text(encoding="utf-8")
    lines = guide.partition("\n| format | ")[2].split("\n\n")[0].splitlines()[2:]
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in lines] == [
        [
            f"`{layout.name}`",
            layout.title,
            ", ".join(f"`{field.name}`" for field in dataclasses.fields(layout)),  # type: ignore[arg-type]  # all are dataclasses
        ]
        for layout in LAYOUTS
    ]


def test_every_function_is_documented() -> None:
    page = (DOCS / "guides" / "pipelines.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [\w ]+ \| (.+) \|$", page, re.MULTILINE))
    assert rows == {name: spec.summary for name, spec in REGISTRY.items()}


def test_reference_of_functions_is_whole() -> None:
    page = (DOCS / "reference" / "functions.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: openhcs\.functions\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(functions.__all__)
