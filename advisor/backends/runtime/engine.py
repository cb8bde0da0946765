"""Serves a list of requests with a loaded model and records their times."""

from collections.abc import Callable, Sequence

from advisor.backends.deployment import BatchPolicy
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.decode_program import DecodeProgram, bucket
from advisor.backends.runtime.device.clock import DeviceClock
from advisor.backends.runtime.device.decode_batch import DecodeBatch
from advisor.backends.runtime.device.token_ring import TokenRing
from advisor.backends.runtime.loop import Loop, RequestQueue
from advisor.backends.runtime.prepare import DeviceOptions, PreparedSession, prepared_session
from advisor.backends.runtime.results import FinishedRequest, GenerationRequest, SequenceProgress, ServingResult
from advisor.backends.runtime.sampler import GREEDY, Sampler, Sampling
from advisor.backends.runtime.scheduler import Policy, Scheduler
from advisor.backends.runtime.step_launch import Launcher
from advisor.backends.runtime.token_ids import check_token_ids
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
    device_options: DeviceOptions | None = None,
) -> ServingResult:
    """Serve all jobs and return their tokens and times.

    `concurrency` is the number of requests in flight; with `None` all are submitted at the start, or each at its time in `arrivals_s`,
    in seconds from the start. `on_step` is called after every step and may raise to cancel; the cache is freed then too.
    `device_options` are by default those of the session's device.

    Raises `AdvisorError`: `bad-run`, `bad-tokens`, `unsupported-model`, `unsupported-format`, `kv-pool-too-small`, `request-too-long`,
    `vocabulary-differs`, `out-of-memory`.
    """
    _check(jobs, concurrency, arrivals_s)
    check_token_ids(session.model, [job.prompt for job in jobs])
    queue = RequestQueue(jobs, concurrency, arrivals_s, frozenset() if ignore_eos else _eos(session))
    options = device_options or DeviceOptions.of(session.device)
    with prepared_session(session, options) as prepared:
        loop = _loop(session, prepared, queue, Sampler(sampling), options)
        loop.run(on_step)
        return loop.outcome(fallback_reason=prepared.fallback_reason)


def _loop(session: LoadedModel, prepared: PreparedSession, queue: RequestQueue, sampler: Sampler, device_options: DeviceOptions) -> Loop:
    device = session.device
    drafts = session.decoding.draft_tokens if prepared.drafter is not None else 0
    policy = Policy(
        session.batching.policy == BatchPolicy.CONTINUOUS,
        session.batching.max_sequences,
        session.batching.token_budget,
        drafts,
        session.batching.chunked,
    )
    batch = DecodeBatch(bucket(session.batching.max_sequences), device)
    program = DecodeProgram(prepared.runner.forward, prepared.runner.decoding, sampler, batch, padded=prepared.runner.kernels)
    if device_options.captured and prepared.runner.kernels:
        program.capture(session.batching.max_sequences)
    ring = TokenRing(session.batching.max_sequences * (drafts + 1), device)
    launcher = Launcher(prepared.runner, program, sampler, ring, DeviceClock(device))
    return Loop(queue, Scheduler(policy, prepared.runner.pool), launcher, prepared.drafter, overlap=device_options.overlap)


def _check(jobs: Sequence[GenerationRequest], concurrency: int | None, arrivals_s: Sequence[float] | None) -> None:
    """Raise `AdvisorError` `bad-run` for arguments that contradict each other."""
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
    """The end-of-sequence tokens of the model's generation config."""
    ids = session.model.generation_config.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(ids) if isinstance(ids, list | tuple) else frozenset({int(ids)})
