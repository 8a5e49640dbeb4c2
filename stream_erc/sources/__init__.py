"""Where a conversation comes from: recordings, microphones, and files of turns that are already known."""
