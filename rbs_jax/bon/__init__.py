"""What picking the best of N is worth."""
