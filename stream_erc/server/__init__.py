"""The WebSocket server: sockets, clock and disk around sessions that speak the protocol."""
