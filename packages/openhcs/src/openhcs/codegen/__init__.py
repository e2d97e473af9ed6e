"""openhcs.codegen."""
