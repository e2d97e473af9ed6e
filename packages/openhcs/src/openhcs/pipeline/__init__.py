"""openhcs.pipeline."""
