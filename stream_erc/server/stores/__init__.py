"""Where the server keeps sessions, so that a client can resume them."""
