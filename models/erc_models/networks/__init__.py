"""The networks: what is shipped in a checkpoint, and what a step runs."""
