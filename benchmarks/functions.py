"""``hatch run bench:functions``: what functions find and what it costs, each against its limit."""

from __future__ import annotations

import sys

import functions_cells
import functions_costs
import functions_features
import functions_focus
import functions_illumination
import functions_images
import functions_objects
import functions_registration
import functions_statistics
import functions_stitching
from _parts import measure_parts

PARTS = {
    "cells": functions_cells.rows,
    "costs": functions_costs.rows,
    "features": functions_features.rows,
    "focus": functions_focus.rows,
    "illumination": functions_illumination.rows,
    "images": functions_images.rows,
    "objects": functions_objects.rows,
    "registration": functions_registration.rows,
    "statistics": functions_statistics.rows,
    "stitching": functions_stitching.rows,
}

if __name__ == "__main__":
    sys.exit(measure_parts(__doc__, PARTS))
