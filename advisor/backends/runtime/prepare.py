"""Prepares a loaded model for serving (attention patched, cache allocated, drafter built), and undoes it afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from advisor.backends.deployment import AttentionBackend, CacheRetention, DecodeMethod, KvLayout
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.attention.rotary import rotary_frequencies
from advisor.backends.runtime.attention.visibility import PLAIN, Visibility
from advisor.backends.runtime.cache.pool import CacheConfig, Pool
from advisor.backends.runtime.device.memory import memory_errors
from advisor.backends.runtime.model.forward import Prepared, prepared
from advisor.backends.runtime.model.row_operators import RowOperators
from advisor.backends.runtime.runner import Runner
from advisor.backends.runtime.speculate import Drafter, DraftModel, PromptLookup
from advisor.backends.runtime.warmup import warm_up_attention
from advisor.kernels.attention.block_pattern import BlockPattern
from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceOptions:
    """How steps are run on a device."""

    kernels: bool = False
    """Decoding reads the cache through our Triton kernels; the decode batch is padded to a bucket then."""
    captured: bool = False
    """Decoding steps are captured in CUDA graphs."""
    overlap: bool = False
    """Overlap scheduling: the tokens of a step are read while the next one runs."""

    @classmethod
    def of(cls, device: torch.device) -> "DeviceOptions":
        """All three on a GPU, none on a CPU: there the host waits for every operator, so that none of them gains time."""
        gpu = device.type == "cuda"
        return cls(kernels=gpu, captured=gpu, overlap=gpu)


@dataclass(frozen=True, slots=True)
class PreparedSession:
    """A loaded model that is ready to serve."""

    runner: Runner
    drafter: Drafter | None
    fallback_reason: str | None
    """Why the model's own code runs; `None` where the runtime's decoder does."""


@contextmanager
def prepared_session(session: LoadedModel, device_options: DeviceOptions | None = None) -> Iterator[PreparedSession]:
    """Patch the model's attention and allocate the cache for the duration, without gradients. Raises `AdvisorError` as `serve` does."""
    with ExitStack() as undo:
        undo.enter_context(memory_errors("serving"))
        options = device_options or DeviceOptions()
        operators = _fused_operators() if options.kernels else None
        target = prepared(session.model, undo, operators, max_tokens=session.max_tokens)
        draft = target if session.draft_model is session.model else None
        undo.enter_context(torch.inference_mode())
        retention = retention_of(session, target.windows)
        visibility = visibility_of(session, target, retention)
        runner = _runner(undo, session, target, session.model, cache_config_of(session, retention), visibility, kernels=options.kernels)
        yield PreparedSession(runner, _drafter(undo, session, draft, options.kernels), target.fallback_reason)


def retention_of(session: LoadedModel, windows: Sequence[int | None]) -> CacheRetention | None:
    """Which tokens the cache retains: by the session's own eviction, else those within the longest of the layers' `windows`.

    Shared prefix blocks are never evicted: with prefix reuse, windows evict nothing. Returns `None` where nothing is evicted. Raises
    `AdvisorError` `bad-run` for a session that has both eviction and prefix reuse.
    """
    if session.kv.window is not None:
        if session.kv.prefix_reuse:
            raise AdvisorError("bad-run", "a cache that evicts tokens cannot share their blocks", exit_code=ExitCode.USAGE)
        return CacheRetention(session.kv.window, session.kv.sink_tokens)
    seen = [min(window or session.max_tokens, session.attention.window or session.max_tokens) for window in windows]
    return CacheRetention(max(seen)) if max(seen) < session.max_tokens and not session.kv.prefix_reuse else None


def visibility_of(session: LoadedModel, target: Prepared, retention: CacheRetention | None) -> Visibility:
    """What tokens attend to beyond the model's own mask, in a cache of this `retention`."""
    rerotations = rotary_frequencies(session.model, target.forward, len(target.heads)) if retention is not None and retention.first else ()
    return Visibility(session.attention.window, pattern_of(session, target.windows), rerotations)


def pattern_of(session: LoadedModel, windows: Sequence[int | None]) -> BlockPattern | None:
    """The session's block-sparse mask for the kernels. Raises `AdvisorError` `bad-run` for layers with windows of their own."""
    pattern = session.attention.pattern
    if pattern is None:
        return None
    if any(window is not None for window in windows):
        raise AdvisorError("bad-run", "a pattern of blocks replaces full attention, and layers of the model have windows of their own")
    return BlockPattern(window=pattern.window, first=pattern.global_tokens, random_blocks=pattern.random_blocks, block=pattern.block_tokens)


def cache_config_of(session: LoadedModel, retention: CacheRetention | None = None) -> CacheConfig:
    """The size of the cache by the session's layout, block size and capacity. Raises `AdvisorError` `bad-run` for wrong settings."""
    block = session.max_tokens if session.kv.layout == KvLayout.CONTIGUOUS else session.kv.block_tokens
    if block < 1:
        raise AdvisorError("bad-run", f"the paged layout needs blocks of at least one token, not {block}", exit_code=ExitCode.USAGE)
    capacity = session.kv_capacity_tokens
    blocks = _most_blocks(session, retention, block) if capacity is None else capacity // block
    config = CacheConfig(
        blocks=blocks,
        block_tokens=block,
        sequences=session.batching.max_sequences,
        max_tokens=session.max_tokens,
        kv_format=session.kv.format,
        prefix_reuse=session.kv.prefix_reuse,
        retention=retention,
    )
    if config.has_ring and session.decoding.draft_tokens > config.page_tokens:
        raise AdvisorError(
            "bad-run",
            f"an {config.kv_format} cache keeps its newest page of {config.page_tokens} tokens exact: drafts may have at most "
            f"{config.page_tokens} tokens, not {session.decoding.draft_tokens}",
            exit_code=ExitCode.USAGE,
        )
    return config


def _most_blocks(session: LoadedModel, retention: CacheRetention | None, block: int) -> int:
    """Blocks for every sequence at its longest, and for the prompt tokens of one step."""
    whole = -(-session.max_tokens // block)
    if retention is None:
        return session.batching.max_sequences * whole
    most = retention.blocks(session.max_tokens, block, new=1 + session.decoding.draft_tokens)
    step = session.batching.token_budget if session.batching.token_budget and session.batching.chunked else session.max_tokens
    passing = min(-(-step // block) + 1, whole)
    return min(session.batching.max_sequences * most + passing, session.batching.max_sequences * whole)


def _runner(
    undo: ExitStack,
    session: LoadedModel,
    ready: Prepared,
    model: torch.nn.Module,
    config: CacheConfig,
    visibility: Visibility,
    *,
    kernels: bool,
) -> Runner:
    pool = Pool(ready.heads, config, next(model.parameters()).dtype, session.device)
    undo.callback(pool.release)
    suits = kernels and _unsupported_by_kernels(pool, ready.windows, visibility) is None
    runner = Runner(ready.forward, pool, session.attention.backend, visibility, session.autotuner, kernels=suits)
    if session.autotuner is not None or session.attention.backend == AttentionBackend.FLEX:
        warm_up_attention(runner, ready, session)
    return runner


def _fused_operators() -> RowOperators:
    from advisor.backends.runtime.model.row_operators import fused  # loads Triton

    return fused()


def _unsupported_by_kernels(pool: Pool, windows: Sequence[int | None], visibility: Visibility) -> str | None:
    from advisor.backends.runtime.attention.kernels import unsupported_by_kernels  # loads Triton

    return unsupported_by_kernels(pool, windows, visibility)


def _drafter(undo: ExitStack, session: LoadedModel, ready: Prepared | None, kernels: bool) -> Drafter | None:
    """The drafter, or `None` without speculation; `ready` is its model where that is prepared already.

    Raises `AdvisorError` `vocabulary-differs`.
    """
    if session.decoding.method == DecodeMethod.PLAIN or session.decoding.draft_tokens < 1:
        return None
    if session.decoding.method == DecodeMethod.PROMPT_LOOKUP:
        return PromptLookup()
    theirs, ours = (model.config.get_text_config().vocab_size for model in (session.draft_model, session.model))
    if theirs != ours:
        raise AdvisorError(
            "vocabulary-differs", f"the draft model has {theirs} tokens and the model {ours}; drafts need the same vocabulary"
        )
    config = CacheConfig(
        blocks=session.batching.max_sequences,
        block_tokens=session.max_tokens,
        sequences=session.batching.max_sequences,
        max_tokens=session.max_tokens,
    )
    with torch.inference_mode(False):
        operators = _fused_operators() if kernels else None
        ready = ready or prepared(session.draft_model, undo, operators, max_tokens=session.max_tokens)
    return DraftModel(_runner(undo, session, ready, session.draft_model, config, PLAIN, kernels=kernels))
