"""Figures of a finished model, each beside its controls."""
