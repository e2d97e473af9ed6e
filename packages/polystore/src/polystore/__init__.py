"""What scientific arrays mean, where they are kept, and how a stream of them becomes a view."""
