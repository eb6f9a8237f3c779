"""Compile for a pod that is not here: bytes, operations, what limits, whether it fits."""
