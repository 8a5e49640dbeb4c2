"""Corpora and features: what networks are trained on and measured with."""
