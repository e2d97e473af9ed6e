"""openhcs.viewers."""
