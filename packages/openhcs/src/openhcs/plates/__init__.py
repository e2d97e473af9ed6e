"""openhcs.plates."""
