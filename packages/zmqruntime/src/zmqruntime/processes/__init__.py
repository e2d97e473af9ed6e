"""Who a process is, what it holds, and how it is told to end."""
