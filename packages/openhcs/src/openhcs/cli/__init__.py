"""The command line of openhcs."""
