"""The thread that owns sockets, and what it waits for."""
