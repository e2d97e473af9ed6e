"""The process that matches a pattern: a document in, a line for each path out, and no more time.

Started by file, isolated from everything that is installed, so that it is there in some 20 ms.
"""

from __future__ import annotations

import json
import re
import sys

_MEMORY = 1 << 30


def main() -> None:
    """Match every path, and say so as soon as it is known."""
    document = json.loads(sys.stdin.buffer.read())
    _limit(document["seconds"])
    compiled = re.compile(document["pattern"])
    for path in document["paths"]:
        match = compiled.fullmatch(path)
        sys.stdout.write(json.dumps(match.groupdict() if match else None) + "\n")
        sys.stdout.flush()  # how far it came is known when it is ended


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:
        return  # Windows: the parent's clock alone ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


if __name__ == "__main__":
    main()
