"""Rows to replicas by the work that each of these has, in the place of Serve's count of requests.

Serve makes a router in every process that holds a handle, and hands it every ten seconds what the
replicas' `record_routing_stats` gave. That tells who holds which adapters, but is too old to choose
by: even at the age of a second work is a worse guide than Serve's count, which every answer renews
(simulated). So a router asks some replicas itself, by the call that Serve's controller makes. All
calls of a handle go through it, streams too. Serve pickles this module by value and what it imports
by name, so it is short.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from ray.exceptions import ActorDiedError, RayError
from ray.serve.request_router import (
    FIFOMixin,
    PendingRequest,
    ReplicaID,
    RequestRouter,
    RunningReplica,
)

from deployments.diffusion.report import WorkReport
from deployments.requests import Row
from serve_app.choice import ASKED, Prospect, preferred, to_ask
from serve_app.replica_work import READ_S, ReplicaWork

ROUTER = f"{__name__}:WorkRouter"
"""For Serve's `request_router_class`."""
ANSWER_WITHIN_S = 0.1
"""Else a replica is not considered. As long as Serve waits for its own question."""

log = logging.getLogger("ray.serve")


class WorkRouter(FIFOMixin, RequestRouter):
    """Asks some replicas what they have, and sends the row to the best of them.

    What is no row, as a question for the model's card, goes to the one with fewer requests of two,
    as with Serve's own router; so do rows while no replica tells.
    """

    asked = ASKED

    def initialize_state(self, **kwargs: Any) -> None:
        """Called by Serve, before anything else."""
        self._random = Random()
        self._known: dict[ReplicaID, ReplicaWork] = {}

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Called by Serve when replicas come, go or have reported."""
        known, ids = self._known, [each.replica_id for each in replicas]
        self._known = {each: known.get(each) or ReplicaWork() for each in ids}
        for each in replicas:
            report = _read(each.routing_stats)
            if report is not None:
                self._known[each.replica_id].hear(report)
        super().update_replicas(replicas)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Lists of replicas to be tried in turn; of each, Serve takes that with fewer requests."""
        if pending_request is not None:
            pending_request.routing_context.should_backoff = True
        row = _row(pending_request)
        if row is not None and len(candidate_replicas) > 1:
            places = to_ask(self._prospects(row, candidate_replicas), self._random, self.asked)
            told = await self._ask([candidate_replicas[place] for place in places])
            if told:
                order = preferred(self._prospects(row, told), self._random)
                self._note(row, told[order[0]].replica_id)
                return [[told[place]] for place in order]
        return [self._random.sample(candidate_replicas, min(2, len(candidate_replicas)))]

    def on_request_routed(
        self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any
    ) -> None:
        """Called by Serve: where it went, which is elsewhere if the first choice was full."""
        row = _row(pending_request)
        if row is not None:
            self._note(row, replica_id)

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """Who gets what was chosen for a request: itself. Serve's own would give it to who came
        first, or by an id that all rows of one HTTP request share."""
        for pending in self._pending_requests_to_fulfill:
            if pending.metadata is request_metadata and not pending.future.done():
                return pending
        return None

    async def _ask(self, replicas: Sequence[RunningReplica]) -> list[RunningReplica]:
        """Those of them that tell what they have."""
        asked_at = time.monotonic()
        answers = await asyncio.gather(*(self._answer(each) for each in replicas))
        told = []
        for replica, report in zip(replicas, answers, strict=True):
            known = self._known.get(replica.replica_id)  # None if it has gone meanwhile
            if report is not None and known is not None:
                known.hear(report, asked_at=asked_at)
                told.append(replica)
        return told

    async def _answer(self, replica: RunningReplica) -> WorkReport | None:
        """What it tells; None if it is late or gone, or has nothing to tell."""
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return _read(await replica._actor_handle.record_routing_stats.remote())
        except ActorDiedError:
            self.on_replica_actor_died(replica.replica_id)
        except (RayError, TimeoutError) as error:
            log.warning("%s does not tell what it has: %r", replica.replica_id, error)
        return None

    def _prospects(self, row: Row, replicas: Sequence[RunningReplica]) -> list[Prospect]:
        reports = [known.report for known in self._known.values() if known.report is not None]
        read_s = max((report.read_s for report in reports), default=0.0) or READ_S
        now = time.monotonic()
        return [self._known[each.replica_id].prospect(row, now, read_s) for each in replicas]

    def _note(self, row: Row, replica_id: ReplicaID) -> None:
        if replica_id in self._known:
            self._known[replica_id].note(row, time.monotonic())


def _row(request: PendingRequest | None) -> Row | None:
    """What is to be made; None for what is a question."""
    first = request.args[0] if request is not None and request.args else None
    return first if isinstance(first, Row) else None


def _read(stats: dict[str, Any]) -> WorkReport | None:
    """None from what is no model, or during an update from a replica of another version."""
    try:
        return msgspec.convert(stats, WorkReport)
    except msgspec.ValidationError:
        return None
