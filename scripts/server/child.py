"""A service in a process of its own, which ends with its parent whatever happens to that."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .client import HOST

SCRIPTS = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 300.0


@contextmanager
def running(module: str, *arguments: str) -> Iterator[int]:
    """Runs `python -m module PORT arguments` and gives the port once it listens there."""
    port = free_port()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(port), *arguments],
            cwd=SCRIPTS,
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            if not _listens(process, port):
                said.seek(0)
                raise RuntimeError(f"{module} did not start:\n{said.read().decode()[-3000:]}")
            yield port
        finally:
            process.kill()
            process.communicate()


def end_with_parent() -> None:
    """Called first by such a module: the parent's end of stdin closes when the parent is gone."""
    threading.Thread(target=_wait_for_the_end, daemon=True).start()


def free_port() -> int:
    """A port on which nothing listens, out of those that nobody is given unasked.

    Linux hands out 32768 and above to whoever connects, and Ray's workers take 10002 to 19999:
    a port from there may be gone again before the service that it was meant for binds it.
    """
    for port in random.sample(range(20_000, 32_768), 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise RuntimeError(f"100 ports of {HOST} between 20000 and 32767 were tried; none is free")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port)).close()
        except ConnectionRefusedError:
            time.sleep(0.1)
        else:
            return True
    return False


def _wait_for_the_end() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
