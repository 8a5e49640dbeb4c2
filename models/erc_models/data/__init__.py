"""Corpora and features to train and evaluate networks on."""
