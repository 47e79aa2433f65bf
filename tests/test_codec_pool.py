"""The engine's thread waits for an encoder only when the encoders are far behind."""

import os
import threading

from deployments.diffusion.codec_pool import CodecPool
from deployments.diffusion.families.family import Family
from tests.driving import drive, driven, wait_until_waiting
from tests.rows import make_row


def test_who_submits_waits_only_when_too_much_does() -> None:
    pool = CodecPool(1, max_waiting=1)
    gate, done = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        assert gate.wait(60)
        done.release()

    def open_when_somebody_waits() -> None:
        while not (pool.waits or gate.is_set()):
            os.sched_yield()
        gate.set()

    pool.submit(work)
    pool.submit(work)
    assert pool.waits == 0
    opener = threading.Thread(target=open_when_somebody_waits)
    opener.start()
    pool.submit(work)  # returns because the opener saw it wait
    waits = pool.waits
    gate.set()
    opener.join()
    pool.close()
    assert waits == 1
    assert [done.acquire(blocking=False) for _ in range(4)] == [True, True, True, False]


def test_a_saturated_engine_never_waits_for_its_codecs(tiny_family: Family) -> None:
    rows = [
        make_row(seed=seed, num_inference_steps=1, output_format=kind)
        for seed, kind in enumerate(("png", "jpeg", "webp") * 100)
    ]
    with driven(tiny_family) as engine:
        futures = [engine.submit(row) for row in rows]
        wait_until_waiting(engine, len(rows))
        drive(engine, futures)
        stats = engine.stats()
    assert stats.finished == len(rows)
    assert stats.codec_waits == 0
