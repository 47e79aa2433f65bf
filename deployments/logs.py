"""Our log lines go where Serve's go: same file, same format, same request id."""

import logging

from deployments.requests import Row


def log_through_serve() -> None:
    """Called once per replica, before anything is logged: Serve configures only its own logger."""
    ours, serves = logging.getLogger("deployments"), logging.getLogger("ray.serve")
    ours.setLevel(serves.level)
    for handler in serves.handlers:
        ours.addHandler(handler)


def about(row: Row) -> dict[str, str]:
    """The `extra` of a line about a row. Serve knows the request only where its call runs, and not
    on the engine's threads, which work for all requests at once."""
    return {"request_id": row.request_id, "row_id": row.id}
