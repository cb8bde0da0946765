"""Measures the quality loss of techniques, each alone, inside the child: metrics of the whole model and the error of every head."""

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
from advisor.backends.processes.events import Event, QualityMeasured
from advisor.backends.processes.jobs import Chosen, QualityJob
from advisor.backends.techniques import by_name
from advisor.profiles.quality import QualityReport, TechniqueQuality

PREREQUISITE = "kv-paged"
"""Applied before every technique: lossless, and required by eviction."""


def measure_techniques(job: QualityJob, emit: Callable[[Event], None]) -> None:
    """Score the unmodified model, then every technique of the job, and emit one report."""
    clock = Clock(time.monotonic(), None, emit)
    clock.report("load", 0, 1)
    config = read_model_config(Path(job.folder))
    longest = min(trained_tokens(config) or WINDOW_TOKENS, WINDOW_TOKENS)
    session = load_session(Path(job.folder), device=job.device, max_tokens=longest)
    windows = token_windows(tokenise(session, Path(job.text_file)), tokens_wanted=job.tokens, longest=longest)
    clock.report("load", 1, 1)
    altered = [_altered(session, chosen) for chosen in job.techniques]
    names = {str(index): session for index, session in enumerate(altered)}
    errors = attention_errors(session, names, windows, partial(clock.report, "attention"))
    with tempfile.TemporaryDirectory(prefix="advisor-quality-") as folder:
        reference = Path(folder) / "reference.safetensors"
        base = measure_baseline(session, windows, reference, partial(clock.report, "unmodified model"))
        qualities = [
            TechniqueQuality(
                technique=chosen.name,
                options=chosen.options,
                reach_tokens=_reach(names[name]),
                metrics=measure_candidate(names[name], reference, partial(clock.report, chosen.name)),
                heads=errors[name],
            )
            for name, chosen in zip(names, job.techniques, strict=True)
        ]
    assert base.perplexity is not None, "a baseline has one"
    emit(
        QualityMeasured(
            report=QualityReport(
                model=job.model,
                text=Path(job.text_file).name,
                tokens=windows.numel(),
                stretch_tokens=windows.shape[1],
                perplexity=base.perplexity.value,
                techniques=tuple(qualities),
            )
        )
    )


def _reach(session: LoadedModel) -> int | None:
    """The most earlier tokens that a token attends to; `None` for all of them."""
    pattern = session.attention.pattern
    attended = pattern.seen_tokens if pattern is not None else None
    retained = session.kv.window + session.kv.sink_tokens if session.kv.window is not None else None
    return min((tokens for tokens in (session.attention.window, attended, retained) if tokens is not None), default=None)


def _altered(session: LoadedModel, chosen: Chosen) -> LoadedModel:
    return by_name(chosen.name, dict(chosen.options)).apply(by_name(PREREQUISITE).apply(session))
