"""Serves a list of jobs with a session's settings and keeps the times: the loop schedule, run, sample, collect."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.backends.runtime.attention import Feed
from advisor.backends.runtime.engage import Engaged, engaged
from advisor.backends.runtime.sampler import GREEDY, Sampler, Sampling
from advisor.backends.runtime.scheduler import Policy, Scheduler, Task
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
    reused_tokens: int = 0
    """Tokens of prompts that were not fed, as an earlier request had left them in the cache."""
    step_seconds: tuple[float, ...] = ()
    own_code_because: str | None = None
    """Why the model ran its own code; `None` where the runtime walked it."""


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
    raise to cancel; the cache is freed then too. Raises `AdvisorError`: `unsupported-model`, `unsupported-format`,
    `kv-pool-too-small`, `request-too-long`, `vocabulary-differs`, `out-of-memory`.
    """
    _check(jobs, concurrency, arrivals_s)
    eos = frozenset() if ignore_eos else _eos(session)
    with engaged(session) as engaged_session:
        run = _Run(session, engaged_session, jobs, Sampler(sampling, session.device), eos)
        return run.to_the_end(concurrency, arrivals_s, on_step)


class _Run:
    """State of one call of `serve`."""

    def __init__(self, session: Session, engaged_session: Engaged, jobs: Sequence[Job], sampler: Sampler, eos: frozenset[int]) -> None:
        self.jobs = jobs
        self.eos = eos
        self.sampler = sampler
        self.runner = engaged_session.runner
        self.drafter = engaged_session.drafter
        self.own_code_because = engaged_session.own_code_because
        drafts = session.draft_tokens if self.drafter is not None else 0
        policy = Policy(session.batching == "continuous", session.max_sequences, session.token_budget, drafts, session.chunked)
        self.scheduler = Scheduler(policy, self.runner.pool)
        self.sequences: list[Running] = []
        self.finished = self.prefill_tokens = self.proposed = self.accepted = 0
        self.step_seconds: list[float] = []
        self.start = time.perf_counter()

    def to_the_end(
        self, concurrency: int | None, arrivals_s: Sequence[float] | None, on_step: Callable[[Progress], None] | None
    ) -> Outcome:
        """Step until every job is finished."""
        while self.finished < len(self.jobs):
            self._submit(concurrency, arrivals_s)
            begin = self.now()
            tasks = self.scheduler.next_tasks()
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
        """Draft, run the model once over all tasks, and give every sequence that is through its tokens what came out."""
        decodes = [task for task in tasks if task.sequence.decodes]
        prompts = [task for task in tasks if not task.sequence.decodes]
        drafts = self._draft(decodes)
        feeds: list[Feed] = []
        wanted: list[int] = []
        row = 0
        for task, draft in zip((*decodes, *prompts), (*drafts, *([] for _ in prompts)), strict=True):
            feeds.append(_feed(task, draft))
            row += len(feeds[-1].tokens)
            if task.count == task.sequence.pending:
                wanted += range(row - 1 - len(draft), row)
        self.prefill_tokens += sum(task.count for task in prompts)
        ready = [task for task in prompts if task.count == task.sequence.pending]
        logits = self.runner.run(feeds, wanted, len(decodes))
        for task in prompts:
            self.scheduler.keep(task.sequence)
        if wanted:
            self._collect((*decodes, *ready), (*drafts, *([] for _ in ready)), self.sampler.pick(logits))

    def _draft(self, decodes: Sequence[Task]) -> list[list[int]]:
        if self.drafter is None:
            return [[] for _ in decodes]
        self.drafter.retain(self.scheduler.running)
        drafts = self.drafter.propose(decodes)
        self.proposed += sum(len(draft) for draft in drafts)
        return drafts

    def _collect(self, tasks: Sequence[Task], drafts: Sequence[list[int]], tokens: list[int]) -> None:
        """Each task has one token more than it has drafts; those up to the first that its draft did not foresee are kept."""
        now, first = self.now(), 0
        for task, draft in zip(tasks, drafts, strict=True):
            chosen = tokens[first : first + len(draft) + 1]
            first += len(chosen)
            foreseen = next((i for i, token in enumerate(draft) if token != chosen[i]), len(draft))
            self.accepted += foreseen
            self._take(task.sequence, chosen[: foreseen + 1], now)

    def _take(self, sequence: Running, tokens: list[int], now: float) -> None:
        """Append to the output, up to an end-of-text token, and forget the cache of what was not accepted."""
        stop = next((place for place, token in enumerate(tokens) if token in self.eos), None)
        if len(sequence.tokens) == sequence.prompt_tokens:
            sequence.first_token_s = now
        sequence.last_token_s = now
        sequence.tokens += tokens if stop is None else tokens[: stop + 1]
        if sequence.remaining == 0 or stop is not None:
            self.scheduler.finish(sequence)
            self.finished += 1
        elif sequence.held is not None:
            self.runner.pool.shrink(sequence.held, len(sequence.tokens) - 1)
            self.scheduler.keep(sequence)

    def _progress(self) -> Progress:
        running, waiting = len(self.scheduler.running), len(self.scheduler.waiting)
        return Progress(len(self.step_seconds), self.now(), self.finished, len(self.jobs), running, waiting)

    def _outcome(self, wall_s: float) -> Outcome:
        finished = tuple(_finished(sequence) for sequence in self.sequences)
        pool = self.runner.pool
        own = 0 if self.drafter is None else self.drafter.kv_bytes
        return Outcome(
            finished=finished,
            wall_s=wall_s,
            steps=len(self.step_seconds),
            prefill_tokens=self.prefill_tokens,
            decode_tokens=sum(len(each.tokens) for each in finished),
            kv_bytes=pool.allocated_bytes + own,
            kv_used_bytes_peak=pool.used_bytes_peak + own,
            proposed=self.proposed,
            accepted=self.accepted,
            preemptions=self.scheduler.preemptions,
            reused_tokens=self.scheduler.reused_tokens,
            step_seconds=tuple(self.step_seconds),
            own_code_because=self.own_code_because,
        )


def _feed(task: Task, draft: list[int]) -> Feed:
    sequence = task.sequence
    assert sequence.held is not None, "a task's sequence holds blocks"
    return Feed(sequence.held, sequence.tokens[sequence.cached : sequence.cached + task.count] + draft)


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


def _check(jobs: Sequence[Job], concurrency: int | None, arrivals_s: Sequence[float] | None) -> None:
    """Raise for arguments that make no sense together."""
    wrong = None
    if any(not job.prompt or job.output_tokens < 1 for job in jobs):
        wrong = "every job needs a prompt of at least one token and at least one output token"
    elif concurrency is not None and (concurrency < 1 or arrivals_s is not None):
        wrong = "concurrency must be at least 1 and stands alone: arrival times are for an open loop"
    elif arrivals_s is not None and (len(arrivals_s) != len(jobs) or list(arrivals_s) != sorted(arrivals_s)):
        wrong = f"{len(jobs)} jobs need as many arrival times, in order"
    if wrong:
        raise AdvisorError("bad-run", wrong, exit_code=ExitCode.USAGE)


def _eos(session: Session) -> frozenset[int]:
    """Tokens that end a sequence, as the model's generation settings say."""
    ids = session.model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset({int(ids)})
