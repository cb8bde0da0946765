"""Makes a session ready to run: its model plugged into our attention, its cache allocated, its drafter at hand; and undoes it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from advisor.backends.runtime.memory import memory_errors
from advisor.backends.runtime.pool import Pool, Room
from advisor.backends.runtime.runner import Runner, cache_shapes, plugged
from advisor.backends.runtime.speculate import Drafter, DraftModel, PromptLookup
from advisor.backends.session import Session
from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(frozen=True, slots=True)
class Engaged:
    """A session while it runs."""

    runner: Runner
    drafter: Drafter | None


@contextmanager
def engaged(session: Session) -> Iterator[Engaged]:
    """Plug, allocate, run without gradients; on the way out unplug and free. Raises `AdvisorError`."""
    with ExitStack() as undo:
        undo.enter_context(memory_errors("serving"))
        undo.enter_context(torch.inference_mode())
        runner = _runner(undo, session, session.model, room_of(session), session.attention)
        yield Engaged(runner, _drafter(undo, session))


def room_of(session: Session) -> Room:
    """The size of the cache that the session's layout, block size and capacity ask for."""
    block = session.max_tokens if session.kv_layout == "contiguous" else session.kv_block_tokens
    if block < 1:
        raise AdvisorError("bad-run", f"the paged layout needs blocks of at least one token, not {block}", exit_code=ExitCode.USAGE)
    capacity = session.kv_capacity_tokens
    blocks = session.max_sequences * -(-session.max_tokens // block) if capacity is None else capacity // block
    return Room(
        blocks=blocks,
        block_tokens=block,
        sequences=session.max_sequences,
        max_tokens=session.max_tokens,
        kv_format=session.kv_format,
        prefix_reuse=session.kv_prefix_reuse,
    )


def _runner(undo: ExitStack, session: Session, model: torch.nn.Module, room: Room, implementation: str) -> Runner:
    undo.enter_context(plugged(model))
    pool = Pool(cache_shapes(model), room, next(model.parameters()).dtype, session.device)
    undo.callback(pool.release)
    return Runner(model, pool, implementation)


def _drafter(undo: ExitStack, session: Session) -> Drafter | None:
    """Raises `AdvisorError` for a draft of another vocabulary."""
    if session.decoding == "plain" or session.draft_tokens < 1:
        return None
    if session.decoding == "prompt-lookup":
        return PromptLookup()
    theirs, ours = (model.config.get_text_config().vocab_size for model in (session.draft_model, session.model))
    if theirs != ours:
        raise AdvisorError(
            "vocabulary-differs", f"the draft model has {theirs} tokens and the model {ours}; drafts need the same vocabulary"
        )
    room = Room(
        blocks=session.max_sequences, block_tokens=session.max_tokens, sequences=session.max_sequences, max_tokens=session.max_tokens
    )
    return DraftModel(_runner(undo, session, session.draft_model, room, session.attention))
