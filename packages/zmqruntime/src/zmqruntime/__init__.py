"""ZeroMQ control and data channels, carriers and services."""
