"""Requests and replies: one ROUTER, many DEALERs, hello and how a peer is."""
