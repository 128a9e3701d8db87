"""Benchmarks: commands that print what they measured. They are never tests, since machines differ."""
