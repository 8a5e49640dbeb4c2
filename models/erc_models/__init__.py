"""Networks that recognize expressed emotion in conversation, turn by turn. Knows tensors only."""
