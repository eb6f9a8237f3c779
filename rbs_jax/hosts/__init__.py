"""Many hosts as one run: how they start, work together and fail."""
