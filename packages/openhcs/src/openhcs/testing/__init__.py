"""openhcs.testing."""
