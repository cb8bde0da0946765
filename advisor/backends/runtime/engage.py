"""Makes a session ready to run: its model plugged into our attention, its cache allocated, its drafter at hand; and undoes it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch

from advisor.backends.runtime.forward import Prepared, prepared
from advisor.backends.runtime.memory import memory_errors
from advisor.backends.runtime.pool import Pool, Room
from advisor.backends.runtime.runner import Runner
from advisor.backends.runtime.speculate import Drafter, DraftModel, PromptLookup
from advisor.backends.session import Session
from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(frozen=True, slots=True)
class Engaged:
    """A session while it runs."""

    runner: Runner
    drafter: Drafter | None
    own_code_because: str | None
    """Why the model's own code runs; `None` where our walk of it does."""


@contextmanager
def engaged(session: Session) -> Iterator[Engaged]:
    """Plug, allocate, run without gradients; on the way out unplug and free. Raises `AdvisorError`."""
    with ExitStack() as undo:
        undo.enter_context(memory_errors("serving"))
        target = prepared(session.model, undo)
        draft = target if session.draft_model is session.model else None
        undo.enter_context(torch.inference_mode())
        runner = _runner(undo, session, target, session.model, room_of(session))
        yield Engaged(runner, _drafter(undo, session, draft), target.own_code_because)


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


def _runner(undo: ExitStack, session: Session, ready: Prepared, model: torch.nn.Module, room: Room) -> Runner:
    pool = Pool(ready.heads, room, next(model.parameters()).dtype, session.device)
    undo.callback(pool.release)
    return Runner(ready.forward, pool, session.attention)


def _drafter(undo: ExitStack, session: Session, ready: Prepared | None) -> Drafter | None:
    """The drafter; `ready` is its model where that is prepared already. Raises `AdvisorError` for one of another vocabulary."""
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
    with torch.inference_mode(False):
        ready = ready or prepared(session.draft_model, undo)
    return DraftModel(_runner(undo, session, ready, session.draft_model, room))
