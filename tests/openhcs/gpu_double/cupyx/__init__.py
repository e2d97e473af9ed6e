"""The part of the double that has SciPy's names."""
