"""The networks and everything that a shipped checkpoint needs."""
