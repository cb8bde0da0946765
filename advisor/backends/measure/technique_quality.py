"""What techniques cost in quality, each by itself, inside the child: whole-model measures and the error of every head."""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from advisor.backends.measure.attention_error import attention_errors
from advisor.backends.measure.quality import WINDOW_TOKENS, measure_baseline, measure_candidate, token_windows
from advisor.backends.measure.rung import tokenise
from advisor.backends.measure.timing import Clock
from advisor.backends.model.load import load_session, read_model_config, trained_tokens
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.processes.events import Event, Judged
from advisor.backends.processes.jobs import Chosen, QualityJob
from advisor.backends.techniques import by_name
from advisor.profiles.quality import QualityReport, TechniqueQuality

UNDERNEATH = "kv-paged"
"""Lossless, and what eviction needs."""


def judge(job: QualityJob, emit: Callable[[Event], None]) -> None:
    """Score the unmodified model, then every technique, and report all at once."""
    clock = Clock(time.monotonic(), None, emit)
    clock.tell("load", 0, 1)
    config = read_model_config(Path(job.folder))
    longest = min(trained_tokens(config) or WINDOW_TOKENS, WINDOW_TOKENS)
    session = load_session(Path(job.folder), device=job.device, max_tokens=longest)
    stretches = token_windows(tokenise(session, Path(job.text_file)), tokens_wanted=job.tokens, longest=longest)
    clock.tell("load", 1, 1)
    altered = [_altered(session, chosen) for chosen in job.techniques]
    names = {str(place): each for place, each in enumerate(altered)}
    errors = attention_errors(session, names, stretches, partial(clock.tell, "attention"))
    with tempfile.TemporaryDirectory(prefix="advisor-quality-") as folder:
        reference = Path(folder) / "reference.safetensors"
        base = measure_baseline(session, stretches, reference, partial(clock.tell, "unmodified model"))
        found = [
            TechniqueQuality(
                technique=chosen.name,
                options=chosen.options,
                reach_tokens=_reach(names[place]),
                metrics=measure_candidate(names[place], reference, partial(clock.tell, chosen.name)),
                heads=errors[place],
            )
            for place, chosen in zip(names, job.techniques, strict=True)
        ]
    assert base.perplexity is not None, "a baseline has one"
    emit(
        Judged(
            report=QualityReport(
                model=job.model,
                text=Path(job.text_file).name,
                tokens=stretches.numel(),
                stretch_tokens=stretches.shape[1],
                perplexity=base.perplexity.value,
                techniques=tuple(found),
            )
        )
    )


def _reach(session: LoadedModel) -> int | None:
    """Tokens that one sees or that the cache keeps, at the most; `None` where that is all of them."""
    pattern = session.attention.pattern
    seen = pattern.seen_tokens if pattern is not None else None
    kept = session.kv.window + session.kv.sink_tokens if session.kv.window is not None else None
    return min((tokens for tokens in (session.attention.window, seen, kept) if tokens is not None), default=None)


def _altered(session: LoadedModel, chosen: Chosen) -> LoadedModel:
    return by_name(chosen.name, dict(chosen.options)).apply(by_name(UNDERNEATH).apply(session))
