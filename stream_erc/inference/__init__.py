"""Networks and recognizers (weights, device, threads), which run the work that the core requests."""
