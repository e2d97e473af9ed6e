"""Regions of interest: what they are, their outlines, and the pixels that they cover."""
