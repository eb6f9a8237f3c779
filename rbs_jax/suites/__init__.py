"""Benchmarks: rows as their publishers ship them to items, and scores of those to figures."""
