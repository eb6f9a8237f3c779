"""The reward model: a decoder trunk, a scalar head, and the score grid."""
