#!/usr/bin/env python
"""What clients notice while nodes die, replicas are replaced and a fleet shrinks.

Ray Serve on a cluster of a head without work and three workers, all on this machine, with the
embedded model. Clients ask without a pause for pictures, edits, streams and AUTOMATIC1111's
pictures of 8 to 50 steps, each counted by the ledger of jobs; every picture is compared with the
one that the same request gave while nothing else ran. `wrong` counts all that is not the right
picture: 5xx, a stream with an event missing or told twice, other pixels. `longest_s` is the slowest
request, `longest_silence_s` the longest time in which no client had an answer, `repeated_rows` how
many rows lost their replica. At `ingress_node_killed` clients are at the node that dies: their
connections are cut, and they ask once more elsewhere (`second_tries`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from about import about_device
from fleet.cluster import WORKERS, Fleet, running_fleet
from fleet.events import CLIENTS, EVENTS
from fleet.load import CASES, picture
from rounding import rounded


def main(arguments: Sequence[str] | None = None) -> None:
    """Try the events, write the file, print it. Raises SystemExit when an answer was wrong."""
    options = _options(arguments)
    report: dict[str, Any] = {
        "about": {
            **about_device("cpu"),
            "cores": os.cpu_count() or 1,
            "workers": WORKERS,
            "clients": CLIENTS,
        }
    }
    with running_fleet() as fleet:
        report |= _tried(fleet, options.events)
    text = json.dumps(rounded(report), indent=1)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)
    if any(report[event]["problems"] for event in options.events):
        raise SystemExit("some answers were wrong: see problems")


def _tried(fleet: Fleet, events: Sequence[str]) -> dict[str, Any]:
    _say("every request alone")
    right = {case: picture(fleet.workers[0].port, case) for case in CASES}
    found = {}
    for event in events:
        _say(event)
        found[event] = EVENTS[event](fleet, right)
        _say(json.dumps(rounded(found[event])))
    return found


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument(
        "--events", nargs="+", choices=list(EVENTS), default=list(EVENTS), metavar="EVENT",
        help=f"only these of {', '.join(EVENTS)}",
    )  # fmt: skip
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
