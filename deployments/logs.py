"""Our log lines go where Serve's go: same file, same format, same request id."""

import logging


def log_through_serve() -> None:
    """Called once per replica, before anything is logged: Serve configures only its own logger."""
    ours, serves = logging.getLogger("deployments"), logging.getLogger("ray.serve")
    ours.setLevel(serves.level)
    for handler in serves.handlers:
        ours.addHandler(handler)
