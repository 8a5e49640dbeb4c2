"""Training of networks and text encoders."""
