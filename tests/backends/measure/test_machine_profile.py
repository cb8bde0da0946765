"""Points are timed through the real modules, the time budget is kept, and the profile stands up as a file."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path

import pytest

from advisor.backends.measure.attention_times import (
    HEAD_SHAPES,
    REQUIRED_SETS,
    UNQUANTISED,
    VARIANTS,
    AttentionShape,
    attention_timings,
    time_attention,
)
from advisor.backends.measure.bandwidth import beyond_cache_bytes, cache_bytes, copy_bytes_per_s, launch_s, read_bytes_per_s
from advisor.backends.measure.interleave import MeasurementKind, T, interleave
from advisor.backends.measure.machine_profile import fastest_dtype
from advisor.backends.measure.overheads import (
    REQUIRED_BATCHES,
    STACKS,
    Shape,
    Tables,
    TimedBatch,
    observed,
    operator_seconds,
    random_llama,
    step_timings,
    timed_steps,
)
from advisor.backends.measure.products import (
    CASES,
    FORMATS,
    OTHER_CASES,
    QUANTISED,
    GemmCase,
    Stored,
    linear,
    product_timings,
    stored_bytes,
    time_case,
)
from advisor.backends.measure.timing import Clock, seconds_per_call
from advisor.backends.processes.child import run_job
from advisor.backends.processes.events import Event, Failed, Progress, Started
from advisor.backends.processes.jobs import PROFILE_STEPS, ProfileJob
from advisor.profiles.errors import AdvisorError
from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import MachineProfile
from advisor.profiles.store import list_profiles
from advisor.running.profile import measure_this_machine, profile_this_machine

FEW_SHAPES = (AttentionShape("decode", 1, 1, 64), AttentionShape("prefill", 1, 16, 16))
SMALL = GemmCase(256, 256, (1, 16), cached=True)


def finished(kind: MeasurementKind[T], clock: Clock) -> list[T]:
    """What a kind finds when there is no time for more than is needed."""
    interleave((kind,), clock, clock.until(0.0), "timings")
    return kind.samples


@pytest.fixture
def clock() -> Clock:
    return Clock(time.monotonic(), 60.0, lambda event: None)


def test_a_call_takes_what_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    now = [0.0]

    def work(call: int) -> None:
        now[0] += 0.004

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert seconds_per_call(work, torch.device("cpu")) == pytest.approx(0.004)


@pytest.mark.parametrize("stored", FORMATS, ids=lambda stored: stored.name)
def test_products_run_through_the_modules_that_a_model_would_run(stored: Stored) -> None:
    import torch

    module = linear(256, 256, stored, torch.device("cpu"))
    assert module(torch.ones(2, 256, dtype=torch.bfloat16)).shape == (2, 256)
    points = list(time_case(SMALL, stored, torch.device("cpu")))
    assert [(point.format, point.m) for point in points] == [(stored.name, 1), (stored.name, 16)]
    assert all(point.seconds > 0 for point in points)


@pytest.mark.parametrize("stored", [Stored("fp32", None), *QUANTISED], ids=lambda stored: stored.name)
def test_products_with_fp32_activations_are_timed_in_fp32(stored: Stored) -> None:
    import torch

    module = linear(256, 256, stored, torch.device("cpu"), "fp32")
    assert module(torch.ones(2, 256)).dtype == torch.float32
    points = list(time_case(SMALL, stored, torch.device("cpu"), "fp32"))
    assert [(point.format, point.m) for point in points] == [(stored.name, 1), (stored.name, 16)]


def test_some_products_are_timed_in_both_types_whichever_is_faster() -> None:
    import torch

    for dtype, other in (("fp32", "bf16"), ("bf16", "fp32")):
        tasks = product_timings(torch.device("cpu"), 1.0, dtype=dtype).tasks
        names = [task.args[1].name for task in tasks if isinstance(task, partial)]
        assert names[0] == dtype
        assert names.count(dtype) == len(CASES)
        assert names.count(other) == len(OTHER_CASES)


def test_quantised_weights_take_less_memory() -> None:
    import torch

    sizes = [stored_bytes(linear(512, 512, stored, torch.device("cpu"))) for stored in FORMATS]
    bf16, int8, int4_g32, int4_g128 = sizes
    assert int8 < 0.6 * bf16
    assert int4_g128 < int4_g32 < 0.35 * bf16


def test_a_working_set_beyond_the_cache_is_larger_than_one_within() -> None:
    import torch

    near, far = (next(iter(time_case(GemmCase(1024, 1024, (1,), cached), FORMATS[0], torch.device("cpu")))) for cached in (True, False))
    assert near.working_set_bytes == cache_bytes(torch.device("cpu")) // 4 // (2 * 2**20) * (2 * 2**20)
    assert far.working_set_bytes == beyond_cache_bytes(torch.device("cpu")) == 4 * cache_bytes(torch.device("cpu"))


def test_attention_is_timed_in_the_needed_variants_even_when_time_is_up(clock: Clock) -> None:
    import torch

    points = finished(attention_timings(torch.device("cpu"), 1.0, FEW_SHAPES), clock)
    assert {(point.implementation, point.layout, point.kv_format) for point in points} == set(VARIANTS[:REQUIRED_SETS])
    assert len(points) == 2 * REQUIRED_SETS
    assert {point.q_heads for point in points} == {HEAD_SHAPES[0].q_heads}


def test_overheads_are_what_steps_take_beyond_their_operators(clock: Clock) -> None:
    import torch

    timings = attention_timings(torch.device("cpu"), 1.0, FEW_SHAPES, VARIANTS[:3])
    tables = Tables(GemmTable(time_case(SMALL, FORMATS[0], torch.device("cpu"))), AttentionTable(finished(timings, clock)))
    shape = Shape(layers=2, hidden=64, intermediate=128, heads=4, kv_heads=2)
    timed = finished(step_timings(torch.device("cpu"), 1.0, (shape,)), clock)
    steps = [observed(step, tables) for step in timed]
    assert [(step.layers, step.hidden_size) for step in steps] == [(2, 64)] * 2 * REQUIRED_BATCHES
    assert all(step.operators_s > 0 for step in steps)
    assert {1, 64, 4, 256} <= {step.rows for step in steps}


def test_a_static_batch_gives_prefill_and_decode_steps() -> None:
    import torch

    shape = Shape(layers=1, hidden=64, intermediate=128, heads=4, kv_heads=2)
    steps_run = list(timed_steps(random_llama(shape, torch.device("cpu")), STACKS[1], TimedBatch(3, 20)))
    assert [(part.phase, part.sequences, part.q_tokens) for part, _ in steps_run] == [("prefill", 1, 20), ("decode", 3, 1)]
    assert all(seconds > 0 for _, seconds in steps_run)


def test_a_model_that_is_made_where_a_profile_is_measured_can_be_served_again_and_again() -> None:
    import torch

    with torch.inference_mode():
        model = random_llama(Shape(layers=1, hidden=128, intermediate=256, heads=4, kv_heads=2), torch.device("cpu"))
        assert [len(list(timed_steps(model, stack, TimedBatch(1, 8)))) for stack in STACKS] == [2, 2]


def test_more_layers_have_more_operators() -> None:
    import torch

    gemm = GemmTable(time_case(SMALL, FORMATS[0], torch.device("cpu")))
    attention = AttentionTable(
        [time_attention(HEAD_SHAPES[0], ("sdpa", "paged", "bf16"), FEW_SHAPES[0], torch.device("cpu"))],
    )
    few, many = (Shape(layers=layers, hidden=256, intermediate=768, heads=8, kv_heads=4) for layers in (2, 4))
    part = next(iter(timed_steps(random_llama(few, torch.device("cpu")), STACKS[1], TimedBatch(2, 16))))[0]
    decode = part.__class__("decode", 2, 1, 16)
    times = [operator_seconds(shape, STACKS[1], decode, Tables(gemm, attention)) for shape in (few, many)]
    assert times[0] < times[1] < 2 * times[0] + 1e-9


def test_bandwidth_and_launch_are_of_this_world(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert 1e8 < copy_bytes_per_s(torch.device("cpu")) < 1e13
    assert 1e8 < read_bytes_per_s(torch.device("cpu")) < 1e13
    assert 1e-8 < launch_s(torch.device("cpu")) < 1e-2


@pytest.mark.slow
def test_a_machine_is_measured_with_progress_reports(tmp_path: Path) -> None:
    events: list[Event] = []
    result = run_job(ProfileJob(name="here", threads=1, budget_s=30.0), events.append, log_file=tmp_path / "child.log")
    profile = result.profile
    assert profile is not None, result
    assert MachineProfile.model_validate_json(profile.model_dump_json()) == profile
    dtype = fastest_dtype(profile.hardware)
    assert {point.format for point in profile.gemm} >= {dtype, *(stored.name for stored in QUANTISED)}
    variants = {(name, layout, dtype if kv == UNQUANTISED else kv) for name, layout, kv in VARIANTS[:REQUIRED_SETS]}
    assert {(point.implementation, point.layout, point.kv_format) for point in profile.attention} >= variants
    assert profile.runtime.step_s + profile.runtime.layer_s > 0
    assert profile.process_bytes > 2**26
    left = [event.left_s for event in events if isinstance(event, Progress)]
    assert left == sorted(left, key=lambda seconds: -(seconds or 0))
    steps = list(dict.fromkeys(event.step for event in events if isinstance(event, Progress)))
    assert steps == list(PROFILE_STEPS)


def test_a_profile_that_is_cancelled_leaves_no_child_and_stores_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    cancel = threading.Event()
    started: list[int] = []

    def heard(event: Event | str) -> None:
        if isinstance(event, Started):
            started.append(event.pid)
            cancel.set()

    with pytest.raises(AdvisorError, match="cancelled") as ended:
        profile_this_machine(None, heard, cancel=cancel)
    assert ended.value.code == "profile-failed"
    assert len(started) == 1
    assert not Path(f"/proc/{started[0]}").exists()
    assert not list_profiles()


def test_a_profile_whose_child_died_tells_its_last_lines_and_no_log_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("import sys\nsys.stdin.read()\nsys.exit('the last words')\n")
    heard: list[Event | str] = []
    with pytest.raises(AdvisorError) as ended:
        measure_this_machine(None, heard.append, worker=(str(tmp_path / "child.py"),))
    (failed,) = (event for event in heard if isinstance(event, Failed))
    assert ended.value.notes == ("the last words",)
    assert failed.notes == ()
