"""Serves a list of jobs with a session's settings and keeps the times: the loop schedule, run, sample, collect."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from advisor.backends.runtime.attention import WIDEST_GROUP, Feed
from advisor.backends.runtime.pool import Heads, Pool, memory_errors
from advisor.backends.runtime.runner import Runner, cache_shapes, plugged
from advisor.backends.runtime.sampler import GREEDY, Sampler, Sampling
from advisor.backends.runtime.scheduler import Policy, Scheduler, Task, by_past
from advisor.backends.runtime.scheduler import Sequence as Running
from advisor.backends.session import Session
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.metrics import Sample


@dataclass(frozen=True, slots=True)
class Job:
    """One request: token ids in, so many tokens out."""

    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Finished:
    """What came out of one job, and when."""

    index: int
    tokens: tuple[int, ...]
    sample: Sample


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands after a step."""

    step: int
    elapsed_s: float
    finished: int
    jobs: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A served list of jobs, in their order, with raw step times."""

    finished: tuple[Finished, ...]
    wall_s: float
    steps: int
    prefill_tokens: int
    """Tokens fed as prompt, those fed again after a preemption included."""
    decode_tokens: int
    """Output tokens of all jobs."""
    kv_bytes: int
    kv_used_bytes_peak: int
    proposed: int = 0
    """Draft positions verified."""
    accepted: int = 0
    preemptions: int = 0
    step_seconds: tuple[float, ...] = ()


def serve(
    session: Session,
    jobs: Sequence[Job],
    *,
    concurrency: int | None,
    ignore_eos: bool = True,
    sampling: Sampling = GREEDY,
    on_step: Callable[[Progress], None] | None = None,
    arrivals_s: Sequence[float] | None = None,
) -> Outcome:
    """Run all jobs and return tokens and times.

    `concurrency` keeps so many requests in flight; `None` submits all at once, or each at its time in `arrivals_s`. `on_step` may
    raise to cancel; the cache is freed then too. Raises `AdvisorError`: `unsupported-model`, `kv-pool-too-small`,
    `request-too-long`, `out-of-memory`.
    """
    _check(session, jobs, concurrency, arrivals_s)
    with plugged(session.model), torch.inference_mode(), memory_errors("serving"):
        pool = make_pool(session, cache_shapes(session.model), session.model.dtype)
        try:
            return _Run(session, pool, jobs, sampling, frozenset() if ignore_eos else _eos(session)).to_the_end(
                concurrency, arrivals_s, on_step
            )
        finally:
            pool.release()


def make_pool(session: Session, layers: tuple[Heads, ...], dtype: torch.dtype) -> Pool:
    """The pool that the session's layout, block size and capacity ask for."""
    block = session.max_tokens if session.kv_layout == "contiguous" else session.kv_block_tokens
    capacity = session.kv_capacity_tokens
    blocks = session.max_sequences * -(-session.max_tokens // block) if capacity is None else capacity // block
    return Pool(
        layers,
        blocks=blocks,
        block_tokens=block,
        rows=session.max_sequences,
        max_tokens=session.max_tokens,
        dtype=dtype,
        device=session.device,
    )


class _Run:
    """State of one call of `serve`."""

    def __init__(self, session: Session, pool: Pool, jobs: Sequence[Job], sampling: Sampling, eos: frozenset[int]) -> None:
        self.jobs = jobs
        self.eos = eos
        self.pool = pool
        self.runner = Runner(session.model, pool, session.attention)
        self.sampler = Sampler(sampling, session.device)
        policy = Policy(session.batching == "continuous", session.max_sequences, session.token_budget)
        self.scheduler = Scheduler(policy, pool)
        self.sequences: list[Running] = []
        self.finished = 0
        self.prefill_tokens = 0
        self.step_seconds: list[float] = []
        self.start = time.perf_counter()

    def to_the_end(
        self, concurrency: int | None, arrivals_s: Sequence[float] | None, on_step: Callable[[Progress], None] | None
    ) -> Outcome:
        """Step until every job is finished."""
        while self.finished < len(self.jobs):
            self._submit(concurrency, arrivals_s)
            begin = self.now()
            tasks = by_past(self.scheduler.next_tasks(), WIDEST_GROUP)
            if not tasks:
                time.sleep(max(0.0, (arrivals_s or ())[len(self.sequences)] - self.now()))
                continue
            self._step(tasks)
            self.step_seconds.append(self.now() - begin)
            if on_step is not None:
                on_step(self._progress())
        return self._outcome(self.now())

    def now(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self.start

    def _submit(self, concurrency: int | None, arrivals_s: Sequence[float] | None) -> None:
        """Queue the jobs that are due."""
        while len(self.sequences) < len(self.jobs):
            index = len(self.sequences)
            if concurrency is not None and index - self.finished >= concurrency:
                return
            if arrivals_s is not None and arrivals_s[index] > self.now():
                return
            job = self.jobs[index]
            sequence = Running(
                index=index,
                tokens=list(job.prompt),
                prompt_tokens=len(job.prompt),
                output_tokens=job.output_tokens,
                submitted_s=self.now() if arrivals_s is None else arrivals_s[index],
            )
            self.scheduler.submit(sequence)
            self.sequences.append(sequence)

    def _step(self, tasks: Sequence[Task]) -> None:
        """Run the model once over the tasks and give every sequence that is through its tokens a new one."""
        feeds, wanted, ready, row = [], [], [], 0
        for task in tasks:
            sequence = task.sequence
            assert sequence.held is not None, "a task's sequence holds blocks"
            if not sequence.decodes:
                self.prefill_tokens += task.count
            feeds.append(Feed(sequence.held, sequence.tokens[sequence.cached : sequence.cached + task.count]))
            row += task.count
            if task.count == sequence.pending:
                wanted.append(row - 1)
                ready.append(sequence)
        logits = self.runner.run(feeds, wanted)
        if not ready:
            return
        tokens = self.sampler.pick(logits)
        now = self.now()
        for sequence, token in zip(ready, tokens, strict=True):
            self._take(sequence, token, now)

    def _take(self, sequence: Running, token: int, now: float) -> None:
        if len(sequence.tokens) == sequence.prompt_tokens:
            sequence.first_token_s = now
        sequence.tokens.append(token)
        sequence.last_token_s = now
        if sequence.remaining == 0 or token in self.eos:
            self.scheduler.finish(sequence)
            self.finished += 1

    def _progress(self) -> Progress:
        running, waiting = len(self.scheduler.running), len(self.scheduler.waiting)
        return Progress(len(self.step_seconds), self.now(), self.finished, len(self.jobs), running, waiting)

    def _outcome(self, wall_s: float) -> Outcome:
        finished = tuple(_finished(sequence) for sequence in self.sequences)
        return Outcome(
            finished=finished,
            wall_s=wall_s,
            steps=len(self.step_seconds),
            prefill_tokens=self.prefill_tokens,
            decode_tokens=sum(len(each.tokens) for each in finished),
            kv_bytes=self.pool.allocated_bytes,
            kv_used_bytes_peak=self.pool.used_bytes_peak,
            preemptions=self.scheduler.preemptions,
            step_seconds=tuple(self.step_seconds),
        )


def _finished(sequence: Running) -> Finished:
    output = tuple(sequence.tokens[sequence.prompt_tokens :])
    sample = Sample(
        prompt_tokens=sequence.prompt_tokens,
        output_tokens=len(output),
        submitted_s=sequence.submitted_s,
        first_token_s=sequence.first_token_s,
        last_token_s=sequence.last_token_s,
    )
    return Finished(sequence.index, output, sample)


def _check(session: Session, jobs: Sequence[Job], concurrency: int | None, arrivals_s: Sequence[float] | None) -> None:
    """Raise for arguments that make no sense together."""
    wrong = None
    if any(not job.prompt or job.output_tokens < 1 for job in jobs):
        wrong = "every job needs a prompt of at least one token and at least one output token"
    elif concurrency is not None and (concurrency < 1 or arrivals_s is not None):
        wrong = "concurrency must be at least 1 and stands alone: arrival times are for an open loop"
    elif arrivals_s is not None and (len(arrivals_s) != len(jobs) or list(arrivals_s) != sorted(arrivals_s)):
        wrong = f"{len(jobs)} jobs need as many arrival times, in order"
    elif session.kv_layout == "paged" and session.kv_block_tokens < 1:
        wrong = f"the paged layout needs blocks of at least one token, not {session.kv_block_tokens}"
    if wrong:
        raise AdvisorError("bad-run", wrong, exit_code=ExitCode.USAGE)


def _eos(session: Session) -> frozenset[int]:
    """Tokens that end a sequence, as the model's generation settings say."""
    ids = session.model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset({int(ids)})
