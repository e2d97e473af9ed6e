"""Stands in for StarDist: its interface, and a threshold in place of a network."""
