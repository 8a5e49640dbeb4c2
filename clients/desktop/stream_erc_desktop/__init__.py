"""A window on a conversation: hear it, read it, see which emotions it expresses, while it is spoken."""
