"""OpenAI's Images API: `wire.py` decodes and encodes it, `routes.py` serves it."""
