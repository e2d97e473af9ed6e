"""Objects of S3 and what speaks it, of Google and of Azure: how they are reached, and no more."""
