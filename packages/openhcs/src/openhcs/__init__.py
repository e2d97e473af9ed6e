"""High-content screening pipelines over whole plates, shown live."""
