"""The networks and recognizers: weights, device and threads, which do the work that the core asks for."""
