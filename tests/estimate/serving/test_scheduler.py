"""The scheduler against a plain one that takes one step at a time, and the rules that hold whatever comes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    DecodeMethod,
    Decoding,
    Deployment,
    KvCache,
    KvLayout,
    Weights,
)
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.operators.types import StepPart
from advisor.estimate.serving.requests import UNLIMITED_POOL, SimPool, SimRequest
from advisor.estimate.serving.scheduler import Scheduler
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model

BLOCK = 16
STEP_S = 0.125
BUDGET = 64


class EqualSteps(StepPricer):
    """Every step takes the same, so that times count steps."""

    def step_s(self, parts: tuple[StepPart, ...]) -> float:
        """An eighth of a second: sums are exact."""
        return STEP_S


def pricer(decoding: Decoding | None = None) -> EqualSteps:
    stack = Deployment(
        model=find_model("meta-llama/Meta-Llama-3.1-8B"),
        weights=Weights("bf16"),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, BLOCK, "bf16"),
        decoding=decoding or Decoding(),
        batching=Batching(BatchPolicy.CONTINUOUS, 8, BUDGET),
    )
    return EqualSteps(stack, CatalogueMachine(load_hardware("h100-sxm"), load_engine("vllm").gpu))


PRICER = pricer()


def scheduler(pool: SimPool = UNLIMITED_POOL, slots: int = 8) -> Scheduler:
    return Scheduler(PRICER, SchedulerRules(policy=BatchPolicy.CONTINUOUS, max_sequences=slots, token_budget=BUDGET, pool=pool))


@dataclass
class Plain:
    """A request of the plain scheduler."""

    number: int
    prompt: int
    output: int
    computed: int = 0
    produced: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def total(self) -> int:
        return self.prompt + self.produced


def one_step_at_a_time(lengths: Sequence[tuple[int, int]], arrivals_s: Sequence[float], pool: SimPool, slots: int) -> list[Plain]:
    """vLLM's rules, one step after another: those that run, the youngest thrown out while blocks lack, then who waits, in order."""
    pending = deque(zip(arrivals_s, (Plain(number, *shape) for number, shape in enumerate(lengths)), strict=True))
    waiting: deque[Plain] = deque()
    running: list[Plain] = []
    done, now = [], 0.0

    def blocks(tokens: int) -> int:
        return -(-tokens // BLOCK)

    def chunks() -> dict[int, int]:
        """New tokens of every sequence that runs."""
        decoding = [request for request in running if request.total - request.computed == 1 and request.produced]
        free, given = max(BUDGET - len(decoding), 1), {request.number: 1 for request in decoding}
        for request in running:
            if request.number not in given:
                given[request.number] = min(request.total - request.computed, free)
                free -= given[request.number]
        return given

    while pending or waiting or running:
        if not (waiting or running):
            now = max(now, pending[0][0])
        while pending and pending[0][0] <= now:
            waiting.append(pending.popleft()[1])
        preempted = False
        while len(running) > 1 and sum(blocks(request.computed + chunks()[request.number]) for request in running) > pool.blocks:
            youngest = running.pop()
            youngest.computed, preempted = 0, True
            waiting.appendleft(youngest)
        while waiting and not preempted and len(running) < slots:
            used, given = sum(blocks(request.computed + chunks()[request.number]) for request in running), chunks()
            prompts = sum(given[request.number] for request in running if not (request.total - request.computed == 1 and request.produced))
            decoding = sum(request.total - request.computed == 1 and request.produced > 0 for request in running)
            started = [request for request in running if request.computed == 0]
            used += sum(blocks(request.total) - blocks(given[request.number]) for request in started)
            if running and (used + blocks(waiting[0].total) > pool.blocks or max(BUDGET - decoding, 1) - prompts <= 0):
                break
            running.append(waiting.popleft())
        given = chunks()
        now += STEP_S
        for request in list(running):
            request.computed += given[request.number]
            if request.computed < request.total:
                continue
            request.produced += 1
            request.first_s = request.first_s or now
            if request.produced == request.output:
                request.last_s = now
                running.remove(request)
                done.append(request)
    return done


shapes = st.lists(st.tuples(st.integers(1, 150), st.integers(1, 60)), min_size=1, max_size=14)
pools = st.integers(14, 40).map(lambda blocks: SimPool(blocks, BLOCK))
"""At least what the longest request takes alone: 210 tokens."""
gaps = st.lists(st.integers(0, 40), min_size=14, max_size=14)


def arrivals(gaps_steps: Sequence[int], count: int) -> list[float]:
    """Times between steps, so that no arrival falls on the end of one."""
    at, observed = 0.0, []
    for gap in gaps_steps[:count]:
        at += gap * STEP_S * 0.75
        observed.append(at + STEP_S / 32)
    return observed


@given(shapes, gaps, pools, st.integers(1, 8))
def test_steps_taken_together_end_as_steps_taken_one_by_one(
    lengths: list[tuple[int, int]], gaps_steps: list[int], pool: SimPool, slots: int
) -> None:
    times = arrivals(gaps_steps, len(lengths))
    jumped = scheduler(pool, slots).serve(lengths, in_flight=None, arrivals_s=times)
    plain = one_step_at_a_time(lengths, times, pool, slots)
    expected = {request.number: request for request in plain}
    assert len(jumped) == len(lengths)
    for request in jumped:
        assert (request.first_s, request.last_s) == pytest.approx((expected[request.number].first_s, expected[request.number].last_s))


@given(shapes, pools, st.integers(1, 8))
def test_the_pool_is_never_overdrawn(lengths: list[tuple[int, int]], pool: SimPool, slots: int) -> None:
    run = scheduler(pool, slots)
    run.serve(lengths, in_flight=None)
    assert 0 < run.peak_blocks <= pool.blocks


@given(shapes, pools)
def test_every_request_finishes_once_with_all_its_tokens(lengths: list[tuple[int, int]], pool: SimPool) -> None:
    done = scheduler(pool).serve(lengths, in_flight=None)
    assert sorted(request.number for request in done) == list(range(len(lengths)))
    assert all((request.prompt, request.output) == lengths[request.number] and request.produced == request.output for request in done)
    assert all(request.arrival_s < request.first_s <= request.last_s for request in done)


@given(shapes, gaps)
def test_first_tokens_come_in_order_of_arrival_without_preemption(lengths: list[tuple[int, int]], gaps_steps: list[int]) -> None:
    run = scheduler()
    done = run.serve(lengths, in_flight=None, arrivals_s=arrivals(gaps_steps, len(lengths)))
    first = [request.first_s for request in sorted(done, key=lambda request: request.number)]
    assert run.preemptions == 0
    assert first == sorted(first)


@given(shapes, pools)
def test_no_more_is_served_than_steps_allow(lengths: list[tuple[int, int]], pool: SimPool) -> None:
    """Each step computes at most the budget, and writes at most a token for each of the sequences that run."""
    run = scheduler(pool)
    done = run.serve(lengths, in_flight=None)
    elapsed_steps = max(request.last_s for request in done) / STEP_S
    assert run.steps == pytest.approx(elapsed_steps)
    assert sum(request.prompt for request in done) <= BUDGET * run.steps
    assert sum(request.output for request in done) <= 8 * run.steps
    assert all((request.last_s - request.first_s) / STEP_S >= request.output - 1 for request in done)


def test_the_youngest_gives_way_and_computes_again_what_it_had_written() -> None:
    """Two of 5 blocks in a pool of 9: the second is thrown out when it has half of its answer and prefilled again, first in the queue."""
    run = scheduler(SimPool(9, BLOCK))
    done = {request.number: request for request in run.serve([(16, 64), (16, 64), (16, 1)], in_flight=None)}
    assert [done[number].preemptions for number in (0, 1)] == [0, 1]
    assert run.preemptions == 1
    assert done[0].last_s == 64 * STEP_S
    assert done[0].last_s < done[1].last_s
    assert done[1].first_s == done[0].first_s


def test_a_preempted_request_goes_before_those_that_came_later() -> None:
    run = scheduler(SimPool(9, BLOCK), slots=2)
    done = {request.number: request for request in run.serve([(16, 64), (16, 64), (100, 10)], in_flight=None)}
    assert done[1].preemptions == 1
    assert done[1].last_s > done[0].last_s
    assert done[2].first_s > done[1].last_s


def test_an_engine_that_reserves_starts_only_what_it_can_finish() -> None:
    """5 blocks each to the end: of three requests two run in 10 blocks, and none is preempted."""
    run = scheduler(SimPool(10, BLOCK, reserves=True))
    done: list[SimRequest] = run.serve([(16, 64)] * 3, in_flight=None)
    assert run.preemptions == 0
    assert [request.first_s / STEP_S for request in done] == [1, 1, 65]


def test_states_of_fixed_size_take_their_share_of_the_pool() -> None:
    """One block for tokens and 2.5 for states: two sequences fit in 7 blocks, not three."""
    run = scheduler(SimPool(7, BLOCK, fixed_blocks=2.5))
    done = run.serve([(8, 4)] * 3, in_flight=None)
    assert [request.first_s / STEP_S for request in done] == [1, 1, 5]


def test_blocks_are_as_large_as_the_pool_says() -> None:
    """Engines that keep states in the pool grow its blocks: two requests of 5 large ones fit in 10, whatever the layout's own size."""
    run = scheduler(SimPool(10, 4 * BLOCK))
    run.serve([(4 * BLOCK, 16 * BLOCK)] * 2, in_flight=None)
    assert run.preemptions == 0
    assert run.peak_blocks == 10


@given(shapes, gaps)
def test_prompts_that_are_not_cut_pass_in_one_step_each(lengths: list[tuple[int, int]], gaps_steps: list[int]) -> None:
    """The time to the first token is at most the step of its own prompt and those of the prompts before it."""
    run = Scheduler(PRICER, SchedulerRules(policy=BatchPolicy.CONTINUOUS, max_sequences=14, token_budget=BUDGET, chunked=False))
    done = run.serve(lengths, in_flight=None, arrivals_s=arrivals(gaps_steps, len(lengths)))
    assert sorted(request.number for request in done) == list(range(len(lengths)))
    for request in done:
        before = sum(other.number < request.number and other.first_s > request.arrival_s for other in done)
        assert request.first_s - request.arrival_s <= (before + 2) * STEP_S


class TokensTake(StepPricer):
    """A step takes a millisecond for each of its tokens."""

    def step_s(self, parts: tuple[StepPart, ...]) -> float:
        """Milliseconds count tokens."""
        return 1e-3 * sum(part.rows for part in parts)


def test_a_whole_prompt_delays_a_short_answer_more_than_chunks_do() -> None:
    """The first answer has four tokens left when a prompt of 1024 comes: it waits for all of it, or for three steps of the budget."""
    took = {}
    for chunked in (True, False):
        pricing = TokensTake(PRICER.deployment, PRICER.machine)
        run = Scheduler(pricing, SchedulerRules(policy=BatchPolicy.CONTINUOUS, max_sequences=2, token_budget=BUDGET, chunked=chunked))
        first, second = sorted(run.serve([(16, 5), (1024, 2)], in_flight=None, arrivals_s=[0.0, 0.017]), key=lambda request: request.number)
        took[chunked] = first.tpot_s, second.first_s
    whole, chunks = took[False], took[True]
    assert whole[0] is not None
    assert chunks[0] is not None
    assert whole[0] > 1.024 / 4 > 0.25 * 1.024 / 4 > chunks[0]
    assert chunks[0] <= (1 + 4 * BUDGET * 1e-3) / 4
    assert chunks[1] == pytest.approx(whole[1], rel=0.02), "the work is the same"


def test_tokens_that_a_draft_adds_shorten_the_run() -> None:
    """Three tokens a step when both drafts are always right."""
    drafted = pricer(Decoding(DecodeMethod.PROMPT_LOOKUP, draft_tokens=2, acceptance=1.0, acceptance_spread=(1.0, 1.0)))
    run = Scheduler(drafted, SchedulerRules(policy=BatchPolicy.CONTINUOUS, max_sequences=1, token_budget=BUDGET))
    assert run.serve([(16, 31)], in_flight=1)[0].last_s == 11 * STEP_S


def test_a_draft_that_goes_past_the_end_holds_no_more_of_the_cache() -> None:
    """Four sequences of 256 + 64 tokens hold 319 at most: twenty blocks of 16 each, whatever the last step was worth."""
    drafting = pricer(Decoding(DecodeMethod.PROMPT_LOOKUP, draft_tokens=4, acceptance=0.6))
    run = Scheduler(drafting, SchedulerRules(policy=BatchPolicy.STATIC, max_sequences=4, token_budget=8192), exact_cache=True)
    run.serve([(256, 64)] * 4, in_flight=4)
    assert run.peak_cache_tokens == 4 * 320
