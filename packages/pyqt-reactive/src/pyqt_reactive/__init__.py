"""Changing models as manager windows, for PyQt6."""
