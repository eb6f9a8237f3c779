"""Candidates drawn from a server."""
