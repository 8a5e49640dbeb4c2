"""A window on a live conversation: its speakers, its words and the emotions they express."""
