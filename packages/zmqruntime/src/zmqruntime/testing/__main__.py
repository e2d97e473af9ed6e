"""``python -m zmqruntime.testing``: put an implementation of the session protocol to the test."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zmqruntime.session import PROTOCOLS, json_schema
from zmqruntime.testing.conformance import CASES, Profile, Subject, connector, run_cases
from zmqruntime.testing.conformance._golden import schema_text

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status.

    Parameters
    ----------
    arguments
        Those of the command line when None.
    """
    parser = argparse.ArgumentParser(prog="python -m zmqruntime.testing", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_conformance(commands.add_parser("conformance", help="try the cases on a server"))
    schema = commands.add_parser("schema", help="write the JSON Schema of the envelopes")
    schema.add_argument("folder", type=Path, help="where to write schema-protocolN.json")
    options = parser.parse_args(arguments)
    if options.command == "schema":
        options.folder.mkdir(parents=True, exist_ok=True)
        for protocol in PROTOCOLS:
            text = schema_text(json_schema(protocol))
            path = options.folder / f"schema-protocol{protocol}.json"
            path.write_text(text, encoding="utf-8")
        return 0
    return _conformance(options)


def _add_conformance(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", help="tcp://HOST:PORT, ws://HOST:PORT/state, …")
    parser.add_argument("--token", help="what to show in the hello")
    parser.add_argument("--protocol", type=int, choices=PROTOCOLS, help="only this one")
    parser.add_argument("--property", help="SCOPE/TARGET/KEY that a client may set, of a layer")
    parser.add_argument("--values", help="JSON array of two values that it takes")
    parser.add_argument("--bad-value", help="JSON value that it refuses")
    parser.add_argument("--command", dest="call", help="a command that does no harm")
    parser.add_argument("--arguments", default="{}", help="JSON object of its named arguments")
    parser.add_argument("--result", default="null", help="JSON value that it returns")
    parser.add_argument("--json", action="store_true", help="write findings as JSON")


def _conformance(options: argparse.Namespace) -> int:
    changes: dict[str, Any] = {}
    if options.property is not None:
        scope, target, key = options.property.split("/")
        changes["property"] = (scope, target, key)
    if options.values is not None:
        first, second = json.loads(options.values)
        changes["values"] = (first, second)
    if options.bad_value is not None:
        changes["bad_value"] = json.loads(options.bad_value)
    if options.call is not None:
        changes["command"] = options.call
        changes["arguments"] = json.loads(options.arguments)
        changes["result"] = json.loads(options.result)
    subject = Subject(
        connect=connector(options.url), token=options.token, profile=Profile(**changes)
    )
    cases = [case for case in CASES if options.protocol in (None, case.protocol)]
    findings = run_cases(subject, cases)
    if options.json:
        rows = [
            {"case": each.case.name, "verdict": each.verdict, "message": each.message}
            for each in findings
        ]
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        for each in findings:
            sys.stdout.write(f"{each.verdict:8}  {each.case.name}\n")
            if each.message:
                sys.stdout.write(f"          {each.message}\n")
        passed = sum(each.verdict == "passed" for each in findings)
        sys.stdout.write(f"{passed} of {len(findings)} cases passed\n")
    return int(any(each.verdict == "failed" for each in findings))


if __name__ == "__main__":
    sys.exit(main())
