"""Bulk replay: many recordings and conversations in text, a process for each that is read at a time."""
