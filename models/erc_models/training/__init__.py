"""How networks and text encoders learn."""
