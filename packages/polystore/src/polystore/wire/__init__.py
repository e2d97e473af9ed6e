"""Payloads as frames: a header and buffers, see docs/protocol/payloads.md."""
