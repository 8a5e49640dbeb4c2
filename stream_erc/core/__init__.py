"""One conversation, without I/O: no clock, no thread, no socket, no weights."""
