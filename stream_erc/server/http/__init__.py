"""HTTP beside the WebSockets, on the same port: the page, health, metrics and the API for recordings."""
