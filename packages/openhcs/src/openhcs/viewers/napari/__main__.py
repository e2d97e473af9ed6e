"""Run ``python -m openhcs.viewers.napari`` as the napari service."""

import sys

from openhcs.viewers.napari._process import main

if __name__ == "__main__":
    sys.exit(main())
