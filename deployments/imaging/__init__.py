"""Pixels: bytes from a client become arrays on a model's grid, and arrays become bytes again.

Numba, NumPy and codecs. This room knows no torch, no HTTP and no Ray; `deployment.py` is what a
Ray replica runs.
"""
