"""Turns -> emotions: a checkpoint's networks, as graphs or with torch. The only importer of `erc_models`."""
