"""Rows in flight and a minute: never more than allowed, nothing leaks, the dead hold nothing."""

import asyncio
import gc
import pickle
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.errors import Requeue, StepwiseError, TooManyRows
from deployments.ingress.limits import Leases, narrowed
from deployments.ingress.routes import build_app
from deployments.ingress.settings import IngressSettings, LimitsSettings
from deployments.jobs.ledger import Ledger
from deployments.jobs.quotas import FIRST_GUESS_S, LEASE_TTL_S, Quotas
from deployments.jobs.settings import JobsSettings
from deployments.requests import GenerationRequest, ImageResult
from tests.ingress_backend import CARD, OneColour, app_over, ask
from tests.rows import make_row

GENERATIONS = "/v1/images/generations"
PROMPT = {"prompt": "a red house"}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def request(rows: int = 1) -> GenerationRequest:
    made = tuple(make_row(seed=seed) for seed in range(rows))
    return GenerationRequest(rows=made, caller="ann")


def running(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def wrapped() -> None:
        asyncio.run(asyncio.wait_for(test(), 30))

    wrapped.__name__ = test.__name__
    return wrapped


# The counting alone.


def test_rows_in_flight_are_refused_beyond_the_limit_and_given_back() -> None:
    clock = Clock()
    quotas = Quotas(max_rows_in_flight=4, clock=clock)
    quotas.begin("ann", "a", 3)
    clock.now += 2
    with pytest.raises(
        TooManyRows, match="'ann' has 3 pictures in flight and asks for 2"
    ) as caught:
        quotas.begin("ann", "b", 2)
    assert caught.value.retry_s == FIRST_GUESS_S - 2
    quotas.begin("bob", "b", 4)
    quotas.begin("ann", "c", 1)
    clock.now += 28
    quotas.end("ann", "a")
    quotas.end("ann", "a")
    assert (quotas.in_flight("ann"), quotas.in_flight("bob")) == (1, 4)
    quotas.begin("ann", "d", 3)
    with pytest.raises(TooManyRows) as caught:
        quotas.begin("ann", "e", 1)
    assert caught.value.retry_s == 2.0, "the oldest, c, is held for 28 s, and a was for 30"


def test_a_lease_that_nobody_renews_expires_and_is_not_renewed_afterwards() -> None:
    clock = Clock()
    quotas = Quotas(max_rows_in_flight=1, clock=clock)
    quotas.begin("ann", "a", 1)
    for _ in range(5):
        clock.now += LEASE_TTL_S - 1
        quotas.renew("ann", "a")
    assert quotas.in_flight("ann") == 1
    clock.now += LEASE_TTL_S
    quotas.renew("ann", "a")
    assert quotas.in_flight("ann") == 0
    quotas.begin("ann", "b", 1)


def test_rows_a_minute_come_back_evenly() -> None:
    clock = Clock()
    quotas = Quotas(rows_per_minute=6, clock=clock)
    quotas.begin("ann", "a", 6)
    with pytest.raises(TooManyRows, match="6 pictures a minute, and 2 more in 20 s") as caught:
        quotas.begin("ann", "b", 2)
    assert caught.value.retry_s == pytest.approx(20)
    quotas.begin("bob", "a", 6)
    clock.now += 20
    quotas.begin("ann", "b", 2)
    with pytest.raises(TooManyRows):
        quotas.begin("ann", "c", 1)


def test_what_is_refused_for_rows_in_flight_costs_nothing_of_the_rate() -> None:
    clock = Clock()
    quotas = Quotas(max_rows_in_flight=2, rows_per_minute=3, clock=clock)
    quotas.begin("ann", "a", 2)
    for _ in range(5):
        with pytest.raises(TooManyRows, match="in flight"):
            quotas.begin("ann", "b", 1)
    quotas.end("ann", "a")
    quotas.begin("ann", "b", 1)


steps = st.lists(
    st.tuples(
        st.sampled_from(["begin", "renew", "end"]),
        st.integers(0, 5),
        st.integers(1, 5),
        st.floats(0, 40),
    ),
    max_size=60,
)


@given(steps, st.integers(5, 8))
def test_never_more_in_flight_than_allowed_and_nothing_leaks(
    steps: list[tuple[str, int, int, float]], most: int
) -> None:
    clock = Clock()
    quotas = Quotas(max_rows_in_flight=most, clock=clock)
    expected: dict[str, tuple[int, float]] = {}
    for i, (op, pick, rows, passes) in enumerate(steps):
        clock.now += passes
        expected = {key: lease for key, lease in expected.items() if lease[1] > clock.now}
        chosen = list(expected)[pick % len(expected)] if expected else "unknown"
        if op == "begin":
            fits = sum(each for each, _ in expected.values()) + rows <= most
            if fits:
                quotas.begin("ann", str(i), rows)
                expected[str(i)] = (rows, clock.now + LEASE_TTL_S)
            else:
                with pytest.raises(TooManyRows):
                    quotas.begin("ann", str(i), rows)
        elif op == "renew":
            quotas.renew("ann", chosen)
            if chosen in expected:
                expected[chosen] = (expected[chosen][0], clock.now + LEASE_TTL_S)
        else:
            quotas.end("ann", chosen)
            expected.pop(chosen, None)
        assert quotas.in_flight("ann") == sum(each for each, _ in expected.values()) <= most
    for key in expected:
        quotas.end("ann", key)
    assert quotas.in_flight("ann") == 0


@given(
    st.lists(st.tuples(st.integers(1, 5), st.floats(0, 100)), max_size=60),
    st.floats(5, 600),
)
def test_never_more_a_minute_than_allowed_and_the_wait_is_true(
    asks: list[tuple[int, float]], per_minute: float
) -> None:
    clock = Clock()
    quotas = Quotas(rows_per_minute=per_minute, clock=clock)
    begun = 0
    for i, (rows, passes) in enumerate(asks):
        clock.now += passes
        try:
            quotas.begin("ann", str(i), rows)
        except TooManyRows as refusal:
            clock.now += refusal.retry_s + 1e-6
            quotas.begin("ann", str(i), rows)
        begun += rows
        assert begun <= per_minute + (clock.now - 1000) * per_minute / 60 + 1e-3


# The lease that the ingress holds.


class Room:
    """The jobs room, as far as leases go; it writes down what it was told."""

    def __init__(self, *, failure: Exception | None = None) -> None:
        self.failure = failure
        self.told: list[str] = []
        self.open = asyncio.Event()
        self.open.set()
        self.renewals: asyncio.Queue[None] = asyncio.Queue()
        self.ended = asyncio.Event()

    async def take_lease(self, caller: str, lease_id: str, rows: int) -> None:
        self.told.append(f"take {caller} {rows}")
        await self.open.wait()
        if self.failure is not None:
            raise self.failure

    async def renew_lease(self, caller: str, lease_id: str) -> None:
        self.told.append("renew")
        self.renewals.put_nowait(None)
        raise Requeue("busy")

    async def end_lease(self, caller: str, lease_id: str) -> None:
        self.told.append(f"end {caller}")
        self.ended.set()


def leases(room: Room, limits: LimitsSettings, **kwargs: Any) -> Leases:
    return Leases(room, limits, **kwargs)  # type: ignore[arg-type]


COUNTED = LimitsSettings(max_rows_in_flight=4)


@running
async def test_a_lease_lasts_as_long_as_the_rows_run() -> None:
    room = Room()
    async with leases(room, COUNTED).held(request(2)):
        assert room.told == ["take ann 2"]
    await room.ended.wait()
    assert room.told == ["take ann 2", "end ann"]


@running
async def test_a_lease_is_renewed_even_where_one_renewal_failed() -> None:
    room = Room()
    async with leases(room, COUNTED, renew_s=0.001).held(request()):
        for _ in range(3):
            await room.renewals.get()
    await room.ended.wait()
    assert room.told[0] == "take ann 1"
    assert room.told[-1] == "end ann"


@running
async def test_a_request_that_is_refused_runs_nothing_and_holds_nothing() -> None:
    room = Room(failure=TooManyRows("enough", retry_s=3.0))
    held = leases(room, COUNTED).held(request())
    with pytest.raises(TooManyRows, match="enough"):
        await held.__aenter__()
    assert room.told == ["take ann 1"]


@running
async def test_a_client_that_leaves_while_the_lease_is_taken_gives_it_back() -> None:
    room = Room()
    room.open.clear()
    held = leases(room, COUNTED).held(request())
    asking = asyncio.ensure_future(held.__aenter__())
    while not room.told:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert room.told == ["take ann 1"]
    room.open.set()
    await room.ended.wait()
    assert room.told == ["take ann 1", "end ann"]


@running
async def test_a_refusal_that_comes_after_the_client_left_is_nobody_s_error() -> None:
    reported: list[Any] = []
    others = asyncio.all_tasks()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    room = Room(failure=TooManyRows("enough"))
    room.open.clear()
    asking = asyncio.ensure_future(leases(room, COUNTED).held(request()).__aenter__())
    while not room.told:
        await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    room.open.set()
    await asyncio.wait(asyncio.all_tasks() - others)
    gc.collect()  # an error that nobody fetched is told when its task goes
    assert reported == []
    assert room.told == ["take ann 1"]


@running
async def test_without_such_a_limit_nobody_is_asked() -> None:
    room = Room()
    limits = LimitsSettings(max_n=1, max_steps=3, max_pixels=64)
    async with leases(room, limits).held(request()):
        pass
    assert room.told == []


# All of it, over HTTP.


class Slow(OneColour):
    """Makes pictures when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.entered: asyncio.Queue[None] = asyncio.Queue()
        self.go = asyncio.Event()

    async def generate(self, request: GenerationRequest) -> list[ImageResult]:
        self.entered.put_nowait(None)
        await self.go.wait()
        return await super().generate(request)


def limited(backend: OneColour, **limits: Any) -> Any:
    quotas = Quotas(
        max_rows_in_flight=limits.get("max_rows_in_flight", 0),
        rows_per_minute=limits.get("rows_per_minute", 0.0),
        clock=Clock(),
    )
    backend.jobs = Ledger(backend.watch_patiently, JobsSettings(), quotas=quotas)
    return build_app(backend, IngressSettings(limits=LimitsSettings(**limits)))


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://ingress")


@running
async def test_rows_in_flight_over_http() -> None:
    backend = Slow()
    async with client(limited(backend, max_rows_in_flight=3)) as http:
        first = asyncio.create_task(http.post(GENERATIONS, json={**PROMPT, "n": 2}))
        await backend.entered.get()
        refused = await http.post(GENERATIONS, json={**PROMPT, "n": 2})
        assert refused.status_code == 429
        assert refused.headers["retry-after"] == "5"
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        second = asyncio.create_task(http.post(GENERATIONS, json=PROMPT))
        await backend.entered.get()
        backend.go.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (await http.post(GENERATIONS, json={**PROMPT, "n": 3})).status_code == 200


@running
async def test_a_request_that_is_cancelled_gives_its_rows_back() -> None:
    backend = Slow()
    async with client(limited(backend, max_rows_in_flight=1)) as http:
        first = asyncio.create_task(http.post(GENERATIONS, json=PROMPT))
        await backend.entered.get()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        backend.go.set()
        status = 429
        while status == 429:
            status = (await http.post(GENERATIONS, json=PROMPT)).status_code
        assert status == 200


def test_rows_a_minute_over_http() -> None:
    app = limited(OneColour(), rows_per_minute=2)
    assert ask(app, "POST", GENERATIONS, json={**PROMPT, "n": 2}).status_code == 200
    refused = ask(app, "POST", GENERATIONS, json=PROMPT)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")


@running
async def test_a_job_counts_until_it_is_over() -> None:
    backend = Slow()
    app = limited(backend, max_rows_in_flight=2)
    ann = replace(request(2), caller="anonymous")
    await backend.jobs.start("anonymous", "a", ann, previews=0)
    await backend.jobs.start("anonymous", "a", ann, previews=0)
    with pytest.raises(TooManyRows):
        await backend.jobs.start("anonymous", "b", ann, previews=0)
    assert await backend.jobs.running("anonymous")
    await backend.entered.get()
    async with client(app) as http:
        assert (await http.post(GENERATIONS, json=PROMPT)).status_code == 429
        await backend.jobs.cancel("anonymous", "a")
        backend.go.set()
        assert (await http.post(GENERATIONS, json=PROMPT)).status_code == 200


@running
async def test_a_job_that_is_cancelled_before_it_began_is_over_and_holds_nothing() -> None:
    backend = OneColour()
    limited(backend, max_rows_in_flight=1)
    for job_id in ("a", "b"):
        await backend.jobs.start("ann", job_id, request(), previews=0)
        assert (await backend.jobs.cancel("ann", job_id)).state == "cancelled"
    assert backend.asked == []


@pytest.mark.parametrize(
    ("limits", "sent", "param", "says"),
    [
        ({"max_n": 2}, {"n": 3}, "n", "n must be from 1 to 2, got 3"),
        ({"max_rows_in_flight": 3}, {"n": 4}, "n", "n must be from 1 to 3, got 4"),
        ({"rows_per_minute": 2.5}, {"n": 3}, "n", "n must be from 1 to 2, got 3"),
        ({"rows_per_minute": 0.5}, {"n": 2}, "n", "n must be from 1 to 1, got 2"),
        (
            {"max_steps": 10},
            {"num_inference_steps": 11},
            "num_inference_steps",
            "num_inference_steps must be from 1 to 10, got 11",
        ),
        ({"max_pixels": 4096}, {"size": "72x64"}, "size", "72x64 is 4608 pixels; at most 4096"),
    ],
)
def test_more_than_a_limit_is_refused_with_its_name_and_the_cure(
    limits: dict[str, Any], sent: dict[str, Any], param: str, says: str
) -> None:
    backend = OneColour()
    answer = ask(limited(backend, **limits), "POST", GENERATIONS, json={**PROMPT, **sent})
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param)
    assert says in error["message"]
    assert backend.asked == []


def test_within_the_limits_presets_and_defaults_follow_them() -> None:
    backend = OneColour()
    app = limited(backend, max_steps=12, max_pixels=64 * 64, max_n=2)
    for quality in ("max", "auto"):
        sent = {**PROMPT, "quality": quality, "n": 2}
        assert ask(app, "POST", GENERATIONS, json=sent).status_code == 200
    assert [each.rows[0].num_inference_steps for each in backend.asked] == [12, 12]
    assert CARD.default_steps == 20
    assert {each.caller for each in backend.asked} == {"anonymous"}


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("name", LimitsSettings.__struct_fields__)
def test_a_wrong_limit_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        LimitsSettings(**{name: value})


def test_the_refusal_survives_pickling() -> None:
    again: StepwiseError = pickle.loads(pickle.dumps(TooManyRows("enough", retry_s=7.0)))
    assert isinstance(again, TooManyRows)
    assert (again.message, again.retry_s) == ("enough", 7.0)


def test_no_limits_are_set_by_default() -> None:
    assert not LimitsSettings().count_rows
    app = app_over(OneColour())
    assert ask(app, "POST", GENERATIONS, json={**PROMPT, "n": CARD.max_images}).status_code == 200


@pytest.mark.parametrize(
    ("sizes", "max_pixels", "default"),
    [
        ((), 0, (64, 64)),
        ((), 64 * 64, (64, 64)),
        ((), 60 * 60, (56, 56)),
        (((64, 64), (32, 64), (32, 32)), 3000, (32, 64)),
    ],
)
def test_the_default_size_keeps_to_the_limit(
    sizes: tuple[tuple[int, int], ...], max_pixels: int, default: tuple[int, int]
) -> None:
    card = narrowed(replace(CARD, sizes=sizes), LimitsSettings(max_pixels=max_pixels))
    assert (card.default_width, card.default_height) == default
