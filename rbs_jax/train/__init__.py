"""From a stream of grids to a checkpoint with its held-out figures."""
