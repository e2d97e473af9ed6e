"""``python -m zmqruntime``."""

from __future__ import annotations

import sys

from zmqruntime._cli import main

if __name__ == "__main__":
    sys.exit(main())
