#!/usr/bin/env python
"""What the HTTP side costs, against plainer ways to serve: three parts, each against its rivals.

  http     an engine that takes no time behind the real graph; against a bare Ray Serve app of two
           deployments that answers with the same bytes, and the same with FastAPI and pydantic
  healthz  GET /healthz while the real engine is saturated; against FastAPI endpoints that run the
           pipeline themselves, `async def` on the event loop and `def` on threads
  decode   a request body to typed fields; against pydantic

All is measured in real time on this machine, over loopback. Services whose requests are compared
take turns, and a figure is the median of all rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from server import added, decoding, saturated
from server.report import Found, report
from server.tables import tables

PARTS = ("http", "healthz", "decode")
ROUNDS, QUICK_ROUNDS = 20, 5
REQUESTS, QUICK_REQUESTS = 200, 100
SECONDS, QUICK_SECONDS = 60.0, 15.0
BATCHES, PER_BATCH = 50, 2000
LIBRARIES = (
    "ray",
    "starlette",
    "uvicorn",
    "fastapi",
    "pydantic",
    "msgspec",
    "torch",
    "diffusers",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write the file, print the tables."""
    options = _options(arguments)
    # Ended by a signal, it ends what it started.
    signal.signal(signal.SIGTERM, _exit)
    found = report(_measure(options))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    print("\n" + tables(found))


def _measure(options: argparse.Namespace) -> Found:
    """The parts that were asked for, one at a time."""
    found = Found(about=_about(options))
    if "decode" in options.parts:
        _say("decoding")
        found.decode = decoding.measure(
            added.wish(options.side), batches=BATCHES, per_batch=PER_BATCH
        )
    if "http" in options.parts:
        _say("an engine that takes no time, behind one and two ingress replicas")
        found.http, facts = added.measure(_added_effort(options))
        found.about |= facts
    if "healthz" in options.parts:
        for system in saturated.SYSTEMS:
            _say(f"{system}, saturated")
            found.saturated[system] = saturated.measure(system, _saturated_effort(options))
    return found


def _added_effort(options: argparse.Namespace) -> added.Effort:
    return added.Effort(
        rounds=options.rounds,
        requests=options.requests,
        connections=options.connections,
        side=options.side,
    )


def _saturated_effort(options: argparse.Namespace) -> saturated.Effort:
    return saturated.Effort(
        seconds=options.seconds,
        in_flight=options.in_flight,
        probes_per_s=options.probes_per_s,
        threads=options.threads,
    )


def _about(options: argparse.Namespace) -> dict[str, Any]:
    settings = {
        name: value for name, value in vars(options).items() if name not in ("json", "quick")
    }
    libraries = {name: version(name) for name in LIBRARIES}
    machine = {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    return {**settings, **machine, **libraries}


def _say(part: str) -> None:
    print(part, file=sys.stderr, flush=True)


def _exit(signum: int, frame: FrameType | None) -> None:
    sys.exit(f"ended by signal {signum}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer rounds and seconds: about five minutes"
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    _add_http(parser)
    _add_healthz(parser)
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = QUICK_ROUNDS if options.quick else ROUNDS
    if options.requests is None:
        options.requests = QUICK_REQUESTS if options.quick else REQUESTS
    if options.seconds is None:
        options.seconds = QUICK_SECONDS if options.quick else SECONDS
    return options


def _add_http(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, help=f"({ROUNDS}; quick {QUICK_ROUNDS})")
    parser.add_argument(
        "--requests",
        type=int,
        help="of each service in each round one by one, and twice as many at once "
        f"({REQUESTS}; quick {QUICK_REQUESTS})",
    )
    parser.add_argument("--connections", type=int, default=8, help="asking at once (8)")
    parser.add_argument(
        "--side", type=int, default=256, help="of the picture that is answered, in pixels (256)"
    )


def _add_healthz(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, help=f"of each service under load ({SECONDS:g}; {QUICK_SECONDS:g})"
    )
    parser.add_argument("--in-flight", type=int, default=8, help="requests for pictures (8)")
    parser.add_argument("--probes-per-s", type=float, default=10.0, help="of GET /healthz (10)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="torch's")


if __name__ == "__main__":
    main()
