"""Real-time streaming recognition of expressed emotion in conversation."""
