"""openhcs.report."""
