"""Speaks HTTP. Knows wire formats, limits and status codes; knows no torch and no pixels."""
