"""Checkpoints' files and what the words of a turn become, read without torch."""
