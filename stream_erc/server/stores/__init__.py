"""Stores of sessions, from which a client can resume."""
