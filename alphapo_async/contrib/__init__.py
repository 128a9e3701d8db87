"""Mounts for web frameworks: each takes AlphaPo's callbacks and hands them to one function."""
