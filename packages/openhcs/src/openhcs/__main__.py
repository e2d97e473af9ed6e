"""Run ``python -m openhcs`` as the command ``openhcs``."""

import sys

from openhcs.cli import main

if __name__ == "__main__":
    sys.exit(main())
