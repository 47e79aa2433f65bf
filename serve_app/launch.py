"""What `scripts/run` starts: one machine's whole service, until Ctrl-C or SIGTERM.

It does what `serve run CONFIG` does on a Ray of its own, and says in a few plain lines what it
is doing, when the model is warm, and what to try.
"""

import argparse
import importlib
import logging
import signal
import socket
import sys
import threading
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import psutil
import ray
from ray import serve
from ray.serve import Application
from ray.serve.schema import ServeApplicationSchema, ServeDeploySchema

from serve_app.strict import read_config_file

EXAMPLE = "a red house on snowy hills at night"
POLL_S = 0.2
STOP_WITHIN_S = 10


class Progress:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def say(self, text: str) -> None:
        """One line, at once, also into a pipe."""
        print(f"[{time.monotonic() - self._begun_s:5.1f} s] {text}", flush=True)


def main() -> None:
    """Starts what the config describes, waits for a signal, ends all that it started."""
    options = _options()
    config, apps = _read(options.config)
    if options.check:
        print(f"{options.config} is right")
        return
    if options.port is not None:
        config.http_options.port = options.port
    host, port = config.http_options.host, config.http_options.port
    _refuse_taken_port(host, port)
    _stop_on_signals()
    progress = Progress()
    try:
        _start(config, apps, progress)
        print(_ready(host, port), flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        progress.say("stopping")
    except RuntimeError as error:
        progress.say(f"failed: {error}")
        sys.exit(1)
    finally:
        _stop()
    progress.say("stopped")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/run", description="Start Stepwise here.")
    local = Path(__file__).parent.parent / "configs" / "local.yaml"
    parser.add_argument("--config", type=Path, default=local)
    parser.add_argument("--port", type=int, help="instead of the config's")
    parser.add_argument("--check", action="store_true", help="the config, and start nothing")
    return parser.parse_args()


def _read(path: Path) -> tuple[ServeDeploySchema, list[Application]]:
    """The config and its applications, built before anything is started."""
    if not path.is_file():
        sys.exit(f"--config {path}: no such file")
    try:
        config = read_config_file(path)
        return config, [_built(app) for app in config.applications]
    except (ValueError, ImportError, AttributeError) as error:
        sys.exit(f"--config {path}: {error}")


def _built(app: ServeApplicationSchema) -> Application:
    module, _, attribute = app.import_path.partition(":")
    build: Any = getattr(importlib.import_module(module), attribute)
    application: Application = build(app.args)
    return application


def _refuse_taken_port(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.exit(
                f"port {port} on {host} cannot be used ({error.strerror}); try --port {port + 1}"
            )


def _stop_on_signals() -> None:
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _start(config: ServeDeploySchema, apps: list[Application], progress: Progress) -> None:
    progress.say("starting Ray")
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    _stop_on_signals()  # ray.init puts a handler of its own in place, which aborts
    progress.say("starting Ray Serve")
    serve.start(
        proxy_location=config.proxy_location,
        http_options=config.http_options.model_dump(),
        logging_config=config.logging_config,
        tracing_config=config.tracing_config,
    )
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # its lines would repeat ours
    settled = threading.Event()
    watcher = threading.Thread(target=_watch, args=(progress, settled), daemon=True)
    watcher.start()
    try:
        for app, application in zip(config.applications, apps, strict=True):
            serve.run(
                application,
                name=app.name,
                route_prefix=app.route_prefix,
                logging_config=app.logging_config or config.logging_config,
            )
    finally:
        settled.set()
        watcher.join()


def _watch(progress: Progress, settled: threading.Event) -> None:
    """Says each deployment's state whenever it changes."""
    said: dict[str, str] = {}
    while not settled.wait(POLL_S):
        _say_changes(progress, said)
    _say_changes(progress, said)


def _say_changes(progress: Progress, said: dict[str, str]) -> None:
    for app in serve.status().applications.values():
        for name, deployment in app.deployments.items():
            state = _STATES.get(deployment.status.value, deployment.message)
            if said.get(name) != state:
                said[name] = state
                progress.say(f"{name}: {state}")


_STATES = {"UPDATING": "starting", "HEALTHY": "ready"}


def _ready(host: str, port: int) -> str:
    url = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"
    return f"""
Stepwise is ready at {url}
Logs: /tmp/ray/session_latest/logs/serve
Try, in another terminal:

  curl {url}/v1/images/generations -o house.png -H 'Accept: image/png' \\
    -H 'Content-Type: application/json' -d '{{"prompt": "{EXAMPLE}"}}'

Ctrl-C stops everything.
"""


def _stop() -> None:
    """Ends Serve and Ray, and makes sure that no process of theirs is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started = psutil.Process().children(recursive=True)
    if ray.is_initialized():
        # Ray tells in red that calls to Serve's controller failed: it was just shut down.
        quiet = StringIO()
        with redirect_stdout(quiet), redirect_stderr(quiet):
            serve.shutdown()
            ray.shutdown()
    _, left = psutil.wait_procs(started, timeout=STOP_WITHIN_S)
    for process in left:
        process.kill()
    psutil.wait_procs(left)


if __name__ == "__main__":
    main()
