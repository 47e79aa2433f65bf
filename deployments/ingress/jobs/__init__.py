"""Native jobs: `wire.py` decodes and encodes them, `routes.py` serves them."""
