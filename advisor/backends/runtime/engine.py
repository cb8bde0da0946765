"""Serves a list of jobs with a session's settings and keeps the times."""

from collections.abc import Callable, Sequence

from advisor.backends.deployment import BatchPolicy
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.decode_program import DecodeProgram, bucket
from advisor.backends.runtime.device.clock import DeviceClock
from advisor.backends.runtime.device.decode_batch import Lanes
from advisor.backends.runtime.device.token_ring import TokenRing
from advisor.backends.runtime.loop import Loop, RequestQueue
from advisor.backends.runtime.prepare import DeviceOptions, PreparedSession, prepared_session
from advisor.backends.runtime.results import FinishedRequest, GenerationRequest, SequenceProgress, ServingResult
from advisor.backends.runtime.sampler import GREEDY, Sampler, Sampling
from advisor.backends.runtime.scheduler import Policy, Scheduler
from advisor.backends.runtime.step_launch import Launcher
from advisor.profiles.errors import AdvisorError, ExitCode

__all__ = ["FinishedRequest", "GenerationRequest", "SequenceProgress", "ServingResult", "serve"]


def serve(
    session: LoadedModel,
    jobs: Sequence[GenerationRequest],
    *,
    concurrency: int | None,
    ignore_eos: bool = True,
    sampling: Sampling = GREEDY,
    on_step: Callable[[SequenceProgress], None] | None = None,
    arrivals_s: Sequence[float] | None = None,
    drive: DeviceOptions | None = None,
) -> ServingResult:
    """Run all jobs and return tokens and times.

    `concurrency` keeps so many requests in flight; `None` submits all at once, or each at its time in `arrivals_s`. `on_step` may
    raise to cancel; the cache is freed then too. `drive` says how the device is driven, by default as suits it. Raises `AdvisorError`:
    `unsupported-model`, `unsupported-format`, `kv-pool-too-small`, `request-too-long`, `vocabulary-differs`, `out-of-memory`.
    """
    _check(jobs, concurrency, arrivals_s)
    load = RequestQueue(jobs, concurrency, arrivals_s, frozenset() if ignore_eos else _eos(session))
    chosen = drive or DeviceOptions.of(session.device)
    with prepared_session(session, chosen) as ready:
        loop = _loop(session, ready, load, Sampler(sampling), chosen)
        loop.run(on_step)
        return loop.outcome(own_code_because=ready.fallback_reason)


def _loop(session: LoadedModel, ready: PreparedSession, load: RequestQueue, sampler: Sampler, drive: DeviceOptions) -> Loop:
    device = session.device
    drafts = session.decoding.draft_tokens if ready.drafter is not None else 0
    policy = Policy(
        session.batching.policy == BatchPolicy.CONTINUOUS,
        session.batching.max_sequences,
        session.batching.token_budget,
        drafts,
        session.batching.chunked,
    )
    lanes = Lanes(bucket(session.batching.max_sequences), device)
    program = DecodeProgram(ready.runner.forward, ready.runner.decoding, sampler, lanes, padded=ready.runner.kernels)
    if drive.captured and ready.runner.kernels:
        program.capture(session.batching.max_sequences)
    ring = TokenRing(session.batching.max_sequences * (drafts + 1), device)
    launcher = Launcher(ready.runner, program, sampler, ring, DeviceClock(device))
    return Loop(load, Scheduler(policy, ready.runner.pool), launcher, ready.drafter, two_slots=drive.two_slots)


def _check(jobs: Sequence[GenerationRequest], concurrency: int | None, arrivals_s: Sequence[float] | None) -> None:
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


def _eos(session: LoadedModel) -> frozenset[int]:
    """Tokens that end a sequence, as the model's generation settings say."""
    ids = session.model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset({int(ids)})
