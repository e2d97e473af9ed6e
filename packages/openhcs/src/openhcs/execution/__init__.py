"""openhcs.execution."""
