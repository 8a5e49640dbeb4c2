"""Evaluation of networks, its stored results and its tables."""
