"""Streams: publishers and feeds, credits, gaps and replay."""
