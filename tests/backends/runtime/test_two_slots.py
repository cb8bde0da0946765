"""With two slots the host learns a step's tokens while the next one runs; texts, ends, preemption and times come out the same."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.device.decode_batch import DecodeEntry
    from advisor.backends.runtime.device.token_ring import TokenCopy
    from advisor.backends.runtime.engine import GenerationRequest, SequenceProgress, ServingResult
    from advisor.backends.runtime.prepare import DeviceOptions

PAGED: dict[str, Any] = {"kv_layout": "paged", "kv_block_tokens": 4, "batching": "continuous"}


def mixed_jobs(seed: int, count: int, *, prompts: int = 20, outputs: int = 24) -> list[GenerationRequest]:
    from advisor.backends.runtime.engine import GenerationRequest

    draw = random.Random(seed)
    return [
        GenerationRequest(tuple(draw.randrange(3, 64) for _ in range(draw.randint(1, prompts))), draw.randint(1, outputs))
        for _ in range(count)
    ]


def two_slots() -> DeviceOptions:
    from advisor.backends.runtime.prepare import DeviceOptions

    return DeviceOptions(overlap=True)


def tokens_of(outcome: ServingResult) -> list[tuple[int, ...]]:
    return [done.tokens for done in outcome.finished]


@pytest.fixture
def slow_device(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The devices of a run, whose tokens reach the host only when they are waited for, and whose buffers the next step overwrites."""
    from advisor.backends.runtime import engine
    from advisor.backends.runtime.device.token_ring import TokenCopy, TokenRing

    made: list[SlowDevice] = []

    class SlowDevice(TokenRing):
        def __init__(self, rows: int, device: torch.device) -> None:
            super().__init__(rows, device)
            self.log: list[tuple[str, int]] = []
            self.known_at: dict[int, float] = {}
            made.append(self)

        def put(self, tokens: torch.Tensor) -> TokenCopy:
            number = len([entry for entry in self.log if entry[0] == "started"])
            self.log.append(("started", number))
            ring, arrival = self, super().put(tokens)

            class Slow(TokenCopy):
                def wait(self) -> list[int]:
                    time.sleep(0.001)
                    ring.log.append(("known", number))
                    ring.known_at[number] = time.perf_counter()
                    return arrival.wait()

            return Slow(arrival.tokens)

    monkeypatch.setattr(engine, "TokenRing", SlowDevice)
    return made


def test_a_step_starts_before_the_tokens_of_the_one_before_are_known(
    llama: Any, open_session: Callable[..., LoadedModel], slow_device: list[Any]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    outcome = serve(open_session(llama), [GenerationRequest((3, 4, 5), 6)], concurrency=None, device_options=two_slots())
    assert outcome.steps == 6
    assert slow_device[0].log == [("started", 0), *(entry for i in range(5) for entry in (("started", i + 1), ("known", i))), ("known", 5)]


def test_one_slot_reads_every_token_before_the_next_step(
    llama: Any, open_session: Callable[..., LoadedModel], slow_device: list[Any]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    serve(open_session(llama), [GenerationRequest((3, 4, 5), 4)], concurrency=None)
    assert slow_device[0].log == [entry for i in range(4) for entry in (("started", i), ("known", i))]


def test_drafts_need_tokens_and_so_one_slot(llama: Any, open_session: Callable[..., LoadedModel], slow_device: list[Any]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    session = open_session(llama, decoding="prompt-lookup", draft_tokens=3)
    serve(session, [GenerationRequest((3, 4, 3, 4, 3), 8)], concurrency=None, device_options=two_slots())
    log = slow_device[0].log
    assert log == [entry for i in range(len(log) // 2) for entry in (("started", i), ("known", i))]


def test_times_are_those_at_which_tokens_are_known(llama: Any, open_session: Callable[..., LoadedModel], slow_device: list[Any]) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve

    outcome = serve(open_session(llama), [GenerationRequest((3, 4, 5), 5)], concurrency=None, device_options=two_slots())
    after, sample, known_at = time.perf_counter(), outcome.finished[0].sample, slow_device[0].known_at
    assert outcome.wall_s - sample.first_token_s <= after - known_at[0], "the first token is not counted before it is known"
    assert outcome.wall_s - sample.last_token_s <= after - known_at[4]
    assert sum(outcome.step_seconds) <= outcome.wall_s


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 7),
    slots=st.integers(1, 5),
    block=st.integers(1, 20),
    budget=st.one_of(st.just(0), st.integers(1, 60)),
    slack=st.integers(0, 60),
    continuous=st.booleans(),
    concurrency=st.one_of(st.none(), st.integers(1, 8)),
    chunked=st.booleans(),
    reuse=st.booleans(),
)
def test_any_mix_of_lengths_blocks_budgets_and_pool_sizes_generates_the_same_tokens(
    seed: int,
    count: int,
    slots: int,
    block: int,
    budget: int,
    slack: int,
    continuous: bool,
    concurrency: int | None,
    chunked: bool,
    reuse: bool,
    llama: Any,
    open_session: Callable[..., LoadedModel],
    generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]],
) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = mixed_jobs(seed, count, prompts=30, outputs=12)
    longest = max(len(job.prompt) + job.output_tokens for job in jobs)
    session = open_session(
        llama,
        max_tokens=longest,
        max_sequences=slots,
        kv_layout="paged",
        kv_block_tokens=block,
        kv_capacity_tokens=(-(-longest // block) + slack // block) * block,
        batching="continuous" if continuous else "static",
        token_budget=budget,
        chunked=chunked,
        kv_prefix_reuse=reuse,
    )
    outcome = serve(session, jobs, concurrency=concurrency, device_options=two_slots())
    assert tokens_of(outcome) == generate(llama, jobs)
    assert outcome.steps == len(outcome.step_seconds)


def test_a_sequence_preempted_before_its_token_is_read_resumes_with_it(
    llama: Any, open_session: Callable[..., LoadedModel], generate: Callable[[Any, Sequence[GenerationRequest]], list[tuple[int, ...]]]
) -> None:
    from advisor.backends.runtime.engine import serve

    jobs = mixed_jobs(0, 6)
    session = open_session(llama, **PAGED, kv_capacity_tokens=48)
    outcome = serve(session, jobs, concurrency=None, device_options=two_slots())
    assert outcome.preemptions > 0, "the pool is meant to run dry"
    assert tokens_of(outcome) == generate(llama, jobs)


def test_the_token_after_an_end_of_text_is_dropped(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve
    from advisor.backends.runtime.prepare import DeviceOptions

    jobs = mixed_jobs(0, 6)
    plain = tokens_of(serve(open_session(llama), jobs, concurrency=None))
    before = llama.generation_config.eos_token_id
    llama.generation_config.eos_token_id = [plain[0][2]]
    try:
        for changes in ({}, PAGED, {**PAGED, "kv_capacity_tokens": 48}, {**PAGED, "kv_prefix_reuse": True}):
            session = open_session(llama, **changes)
            ended = [
                serve(session, jobs, concurrency=None, ignore_eos=False, device_options=drive) for drive in (DeviceOptions(), two_slots())
            ]
            wanted = [whole[: whole.index(plain[0][2]) + 1] if plain[0][2] in whole else whole for whole in plain]
            assert tokens_of(ended[0]) == tokens_of(ended[1]) == wanted
            assert any(len(cut) < len(whole) for cut, whole in zip(wanted, plain, strict=True))
    finally:
        llama.generation_config.eos_token_id = before


def test_a_sequence_that_waits_again_may_turn_out_to_have_ended(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    """Every token that comes out just as its sequence gives way is an end of text for one of these runs."""
    from advisor.backends.runtime.engine import serve

    jobs = mixed_jobs(3, 5)
    session = open_session(llama, **PAGED, kv_capacity_tokens=44)
    plain = tokens_of(serve(session, jobs, concurrency=None))
    before, ended_early = llama.generation_config.eos_token_id, 0
    try:
        for stop in sorted(set(sum(plain, ()))):
            llama.generation_config.eos_token_id = stop
            outcome = serve(session, jobs, concurrency=None, ignore_eos=False, device_options=two_slots())
            assert tokens_of(outcome) == [whole[: whole.index(stop) + 1] if stop in whole else whole for whole in plain]
            ended_early += outcome.preemptions
    finally:
        llama.generation_config.eos_token_id = before
    assert ended_early > 0, "the pool is meant to run dry"


def test_drawn_tokens_are_the_same_with_one_slot_and_two_and_in_any_batch(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve
    from advisor.backends.runtime.prepare import DeviceOptions
    from advisor.backends.runtime.sampler import Sampling

    jobs, sampling = mixed_jobs(1, 6), Sampling(temperature=0.9, top_p=0.95, seed=4)
    runs = [
        serve(open_session(llama, **changes), jobs, concurrency=concurrency, sampling=sampling, device_options=drive)
        for changes, concurrency, drive in (
            ({}, None, DeviceOptions()),
            ({}, 1, DeviceOptions()),
            (PAGED, None, two_slots()),
            ({**PAGED, "kv_capacity_tokens": 48}, None, two_slots()),
            ({"decoding": "prompt-lookup", "draft_tokens": 3}, None, DeviceOptions()),
        )
    ]
    assert len({tuple(tokens_of(run)) for run in runs}) == 1
    other = serve(open_session(llama), jobs, concurrency=None, sampling=Sampling(temperature=0.9, top_p=0.95, seed=5))
    assert tokens_of(other) != tokens_of(runs[0])


def test_progress_is_reported_once_for_every_step_and_may_cancel(llama: Any, open_session: Callable[..., LoadedModel]) -> None:
    from advisor.backends.runtime.engine import serve

    reports: list[SequenceProgress] = []
    outcome = serve(open_session(llama), mixed_jobs(2, 5), concurrency=2, on_step=reports.append, device_options=two_slots())
    assert [progress.step for progress in reports] == list(range(1, outcome.steps + 1))
    assert (reports[-1].finished, reports[-1].running, reports[-1].waiting) == (5, 0, 0)

    def cancel(progress: SequenceProgress) -> None:
        if progress.step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        serve(open_session(llama), mixed_jobs(2, 5), concurrency=None, on_step=cancel, device_options=two_slots())


def test_an_open_loop_waits_for_arrivals_and_does_not_count_them_as_the_devices_waiting(
    llama: Any, open_session: Callable[..., LoadedModel]
) -> None:
    from advisor.backends.runtime.engine import GenerationRequest, serve
    from advisor.backends.runtime.prepare import DeviceOptions

    jobs = [GenerationRequest((3, 4, 5), 3), GenerationRequest((6, 7), 3)]
    for drive in (DeviceOptions(), two_slots()):
        outcome = serve(open_session(llama, batching="continuous"), jobs, concurrency=None, arrivals_s=[0.0, 0.4], device_options=drive)
        assert outcome.finished[1].sample.first_token_s > 0.4
        assert outcome.host_gap_s < 0.3
        assert 0 < outcome.device_s < outcome.wall_s


def test_batch_entries_follow_sequences_that_start_finish_and_move() -> None:
    import torch

    from advisor.backends.runtime.device.decode_batch import DecodeBatch, DecodeEntry

    batch = DecodeBatch(8, torch.device("cpu"))

    def placed(number: int, position: int, token: int | None, source: int = 0) -> DecodeEntry:
        return DecodeEntry(number=number, row=number + 10, position=position, stored=position, token=token, source=source)

    batch.set_entries([placed(0, 5, 50), placed(1, 7, 51)], 4, None)
    assert batch.ids[:4].tolist() == [50, 51, 0, 0]
    assert batch.live[:4].tolist() == [1, 1, 0, 0]
    batch.advance(torch.tensor([60, 61, 62, 63]), 4)
    batch.note_advanced()
    assert batch.positions[:4].tolist() == [6, 8, 0, 0], "padding stays where it is"
    batch.set_entries([placed(0, 6, None, 0), placed(1, 8, None, 1)], 4, batch.ids[:2])
    assert batch.ids[:2].tolist() == [60, 61]
    batch.advance(torch.tensor([70, 71, 72, 73]), 4)
    batch.note_advanced()
    batch.set_entries([placed(1, 9, None, 1), placed(2, 3, 99), placed(0, 7, None, 0)], 4, batch.ids[:2])
    assert batch.ids[:3].tolist() == [71, 99, 70]
    assert batch.rows[:3].tolist() == [11, 12, 10]
    assert batch.positions[:4].tolist() == [9, 3, 7, 0]
    assert batch.live[:4].tolist() == [1, 1, 1, 0]
