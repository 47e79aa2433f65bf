"""The benchmark of routing: its traces, its figures, and all of it once, very small."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from batching.trace import Form
from routing import plan
from routing.callers import Visit
from routing.figures import figures, ratios
from routing.fleet import Record
from routing.lora import save_adapters
from routing.report import Run, report
from routing.routers import OURS, ROUTERS, SERVE, serve_options
from routing.tables import tables
from routing.trace import CALLERS, LONG, SHORT, Mix, trace

from deployments.diffusion.adapters.files import read_adapter
from deployments.diffusion.families.family import Family
from deployments.diffusion.settings import Adapter

ROOT = Path(__file__).parent.parent
FORM = Form(64, "EulerDiscreteScheduler")


def test_a_trace_depends_on_its_seed_alone_and_mixes_as_it_should() -> None:
    mix = Mix(0.1, FORM, ("ink", "oil"))
    jobs = trace(3, 1000, mix)
    assert jobs == trace(3, 1000, mix)
    assert jobs != trace(4, 1000, mix)
    assert Counter(job.row.num_inference_steps for job in jobs) == {SHORT: 900, LONG: 100}
    assert Counter(use.name for job in jobs for use in job.row.adapters) == {"ink": 500, "oil": 500}
    assert not any(job.row.adapters for job in trace(3, 100, Mix(0.5, FORM)))
    callers = Counter(job.caller for job in jobs)
    assert set(callers) == set(range(CALLERS))
    assert min(callers.values()) > 400
    gaps = [later.arrival - earlier.arrival for earlier, later in pairwise(jobs)]
    assert jobs[0].arrival == 0
    assert 0.85 < sum(gaps) / len(gaps) < 1.15


def test_a_load_is_a_share_of_what_full_batches_would_do() -> None:
    half, tenth = (plan.skewed(name, [0.5, 1.0]) for name in plan.SHARES)
    assert half.rates[0] * 2 == half.rates[1] < tenth.rates[1]
    # 27 steps of two lanes at 14.54 ms, a decode of 22.5 ms and two prompts of 2 ms, four times
    assert half.rates[1] == pytest.approx(4 / 0.8116, rel=0.001)


def test_every_router_is_one_that_serve_takes() -> None:
    assert "request_router_config" not in serve_options(SERVE, 2)
    for router in set(ROUTERS) - {SERVE}:
        assert serve_options(router, 2)["request_router_config"]["request_router_class"]


def record(latencies: list[tuple[int, float | None]], **changes: Any) -> Record:
    fields = {"wall_s": 10.0, "requeued": 0, "adapter_reads": 0, "adapter_switches": 0, **changes}
    return Record(visits=[Visit(*each) for each in latencies], **fields)


def test_figures_are_of_all_seeds_and_ratios_to_serves_router() -> None:
    serves = figures([record([(4, 1.0), (50, 3.0)], adapter_reads=6), record([(4, 3.0)])])
    assert (serves["p50_s"], serves["short_p50_s"], serves["long_p99_s"]) == (3.0, 2.0, 3.0)
    assert (serves["rows"], serves["rows_per_s"], serves["failed"]) == (3, 0.15, 0)
    ours = figures([record([(4, 1.5), (4, None)], adapter_reads=3, requeued=2)])
    assert (ours["failed"], ours["rows_per_s"]) == (1, 0.1)
    assert "long_p99_s" not in ours
    found = ratios(ours, serves)
    assert (found["p50_s"], found["adapter_reads"]) == (0.5, 0.5)
    assert not {"requeued", "long_p99_s"} & set(found), "nothing to compare with"


def test_the_report_has_every_part_and_its_ratios() -> None:
    records = {
        Run("half long", "34 rows/s", router, seed): record([(4, 1.0 + seed), (50, 2.0)])
        for router in ROUTERS
        for seed in (0, 1)
    }
    found = report(records, {"cores": 2})
    assert set(found["half long"]["34 rows/s"]) == set(ROUTERS)
    assert found["half long"]["34 rows/s"][OURS]["to_power_of_two"]["p99_s"] == 1.0
    assert "to_power_of_two" not in found["half long"]["34 rows/s"][SERVE]
    printed = tables(found)
    assert "half long, 34 rows/s" in printed
    assert "of power_of_two's" in printed


def test_its_adapters_can_be_read(tmp_path: Path, embedded_family: Family) -> None:
    [first, second] = save_adapters(tmp_path, 2)
    read = [
        read_adapter(Adapter(name=path.stem, source=str(path)), embedded_family)
        for path in (first, second)
    ]
    [layers, others] = [adapter.parts["unet"] for adapter in read]
    assert len(layers) > 10
    name = next(iter(layers))
    assert not layers[name].up.equal(others[name].up)


@pytest.mark.slow
def test_a_tiny_benchmark_has_every_figure(tmp_path: Path) -> None:
    """In a process of its own: a Ray of the other tests may run in this one."""
    path = tmp_path / "figures.json"
    arguments = ["--seconds", "2", "--loads", "0.1", "--seeds", "0", "--adapter-rows-per-s", "2"]
    arguments += ["--parts", "a tenth long", "adapters", "--json", str(path)]
    subprocess.run([sys.executable, "scripts/bench_routing.py", *arguments], cwd=ROOT, check=True)
    found = json.loads(path.read_text())
    [tenth] = found["a tenth long"].values()
    [adapters] = found["adapters"].values()
    assert set(tenth) == set(ROUTERS)
    assert set(adapters) == {SERVE, OURS}
    for each in (*tenth.values(), *adapters.values()):
        assert each["rows"] > 3
        assert each["failed"] == 0
        assert each["p50_s"] > 0
    assert tenth[OURS]["to_power_of_two"]["p50_s"] > 0
