"""Stands in for Cellpose 4: its interface, and a threshold in place of a network."""
