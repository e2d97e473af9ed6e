"""openhcs.viewers.napari."""
