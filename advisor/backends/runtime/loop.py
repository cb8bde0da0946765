"""The loop of a run: schedule, launch, process results. With overlap, the tokens of a step are read while the next one runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.backends.runtime.device.clock import DeviceClock
from advisor.backends.runtime.results import FinishedRequest, GenerationRequest, SequenceProgress, ServingResult
from advisor.backends.runtime.scheduler import ScheduledChunk, Scheduler
from advisor.backends.runtime.scheduler import Sequence as Running
from advisor.backends.runtime.speculate import Drafter
from advisor.backends.runtime.step_launch import Launch, Launcher, LaunchPart
from advisor.profiles.metrics import Sample


@dataclass(frozen=True, slots=True)
class RequestQueue:
    """The requests of a run and when they are submitted: `concurrency` at a time, each at its time in `arrivals_s`, or all at the start."""

    jobs: Sequence[GenerationRequest]
    concurrency: int | None = None
    arrivals_s: Sequence[float] | None = None
    eos: frozenset[int] = frozenset()
    """End-of-sequence tokens."""


class Loop:
    """State of one run."""

    def __init__(self, queue: RequestQueue, scheduler: Scheduler, launcher: Launcher, drafter: Drafter | None, *, overlap: bool) -> None:
        self.queue = queue
        self.scheduler = scheduler
        self.launcher = launcher
        self.drafter = drafter
        self.overlap = overlap and drafter is None
        self.clock: DeviceClock = launcher.clock
        self.sequences: list[Running] = []
        self.finished = self.prefill_tokens = self.proposed = self.accepted = self.captured_steps = 0
        self.step_seconds: list[float] = []
        self._on_its_way: Launch | None = None
        self._collected_s = 0.0
        self._idle = True
        self.start = time.perf_counter()

    def run(self, on_step: Callable[[SequenceProgress], None] | None) -> None:
        """Run steps until every request is finished; call `on_step` after each."""
        while self.finished < len(self.queue.jobs):
            self._submit()
            begin = self.now()
            tasks = self.scheduler.schedule()
            launch = self._launch(tasks, begin) if tasks else None
            due = launch
            if self.overlap:
                due, self._on_its_way = self._on_its_way, launch
            if due is not None:
                self._process_results(due)
                if on_step is not None:
                    on_step(self._progress())
            elif launch is None:
                self._wait_for_arrival()

    def now(self) -> float:
        """Seconds since the start of the run."""
        return time.perf_counter() - self.start

    def _submit(self) -> None:
        """Submit the requests that are due."""
        queue = self.queue
        while len(self.sequences) < len(queue.jobs):
            index = len(self.sequences)
            if queue.concurrency is not None and index - self.finished >= queue.concurrency:
                return
            if queue.arrivals_s is not None and queue.arrivals_s[index] > self.now():
                return
            job = queue.jobs[index]
            sequence = Running(
                index=index,
                tokens=list(job.prompt),
                prompt_tokens=len(job.prompt),
                output_tokens=job.output_tokens,
                submitted_s=self.now() if queue.arrivals_s is None else queue.arrivals_s[index],
            )
            self.scheduler.submit(sequence)
            self.sequences.append(sequence)

    def _wait_for_arrival(self) -> None:
        assert self.queue.arrivals_s is not None, "with nothing to run and nothing on its way, a job is yet to arrive"
        self._idle = True
        time.sleep(max(0.0, self.queue.arrivals_s[len(self.sequences)] - self.now()))

    def _launch(self, tasks: Sequence[ScheduledChunk], begin: float) -> Launch:
        """Draft, and launch a step of all chunks."""
        decodes = [task for task in tasks if task.sequence.decodes]
        prompts = [task for task in tasks if not task.sequence.decodes]
        drafts = self._draft(decodes)
        self.prefill_tokens += sum(task.count for task in prompts)
        launch = self.launcher.launch((*decodes, *prompts), drafts, begin_s=begin, follows=not self._idle)
        self._idle = False
        for task in prompts:
            self.scheduler.cache_prefix(task.sequence)
        return launch

    def _draft(self, decodes: Sequence[ScheduledChunk]) -> list[list[int]]:
        if self.drafter is None:
            return [[] for _ in decodes]
        self.drafter.retain(self.scheduler.running)
        drafts = self.drafter.propose(decodes)
        self.proposed += sum(len(draft) for draft in drafts)
        return drafts

    def _process_results(self, launch: Launch) -> None:
        """Wait for a step and append its tokens: the accepted draft tokens of each sequence and the model's token after them."""
        launch.end.wait()
        tokens = launch.copy.wait() if launch.copy is not None else []
        now, first = self.now(), 0
        for part in launch.parts:
            chosen = tokens[first : first + len(part.draft) + 1]
            first += len(chosen)
            accepted = next((i for i, token in enumerate(part.draft) if token != chosen[i]), len(part.draft))
            if not part.sequence.done:
                self.accepted += accepted
                self._append_tokens(part, chosen[: accepted + 1], now)
        self.clock.add(launch.begin, launch.end, follows=launch.follows)
        self.captured_steps += launch.captured
        end = self.now()
        self.step_seconds.append(end - max(launch.begin_s, self._collected_s))
        self._collected_s = end

    def _append_tokens(self, part: LaunchPart, tokens: list[int], now: float) -> None:
        """Append tokens up to an end-of-sequence token, and truncate the cache to what was accepted.

        With overlap, the unknown token of the step that is running follows them; it is dropped after the end.
        """
        sequence, position = part.sequence, part.position
        stop = next((index for index, token in enumerate(tokens) if token in self.queue.eos), None)
        if position == sequence.prompt_tokens:
            sequence.first_token_s = now
        sequence.last_token_s = now
        new_tokens = tokens if stop is None else tokens[: stop + 1]
        sequence.tokens[position : position + 1 if stop is None else None] = new_tokens
        if sequence.cache is not None:
            self.scheduler.pool.truncate(sequence.cache, len(sequence.tokens) - 1)
        if position + len(new_tokens) == sequence.prompt_tokens + sequence.output_tokens or stop is not None:
            self.scheduler.finish(sequence)
            self.finished += 1
        else:
            self.scheduler.cache_prefix(sequence)

    def _progress(self) -> SequenceProgress:
        running, waiting = len(self.scheduler.running), len(self.scheduler.waiting)
        return SequenceProgress(len(self.step_seconds), self.now(), self.finished, len(self.queue.jobs), running, waiting)

    def outcome(self, *, fallback_reason: str | None) -> ServingResult:
        """The result of the run."""
        wall_s = self.now()
        finished = tuple(_finished(sequence) for sequence in self.sequences)
        pool = self.scheduler.pool
        own = 0 if self.drafter is None else self.drafter.kv_bytes
        return ServingResult(
            finished=finished,
            wall_s=wall_s,
            steps=len(self.step_seconds),
            prefill_tokens=self.prefill_tokens,
            decode_tokens=sum(len(request.tokens) for request in finished),
            kv_bytes=pool.allocated_bytes + own,
            kv_used_bytes_peak=pool.used_bytes_peak + own,
            proposed=self.proposed,
            accepted=self.accepted,
            preemptions=self.scheduler.preemptions,
            reused_tokens=self.scheduler.reused_tokens,
            step_seconds=tuple(self.step_seconds),
            captured_steps=self.captured_steps,
            device_s=self.clock.device_s,
            host_gap_s=self.clock.host_gap_s,
            fallback_reason=fallback_reason,
            uncaptured_because=self.launcher.program.uncaptured_because,
        )


def _finished(sequence: Running) -> FinishedRequest:
    output = tuple(sequence.tokens[sequence.prompt_tokens :])
    sample = Sample(
        prompt_tokens=sequence.prompt_tokens,
        output_tokens=len(output),
        submitted_s=sequence.submitted_s,
        first_token_s=sequence.first_token_s,
        last_token_s=sequence.last_token_s,
    )
    return FinishedRequest(sequence.index, output, sample)
