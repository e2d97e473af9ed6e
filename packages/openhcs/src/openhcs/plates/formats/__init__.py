"""openhcs.plates.formats."""
