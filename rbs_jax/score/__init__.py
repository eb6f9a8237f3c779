"""Texts to rewards."""
