"""Measures one rung of the ladder, inside the child: load, apply techniques, serve, measure memory and quality."""

import codecs
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.backends.measure.latency import OnProgress, serve_workload
from advisor.backends.measure.memory import peak_bytes, reset_peak, weight_bytes
from advisor.backends.measure.quality import WINDOW_TOKENS, measure_baseline, measure_candidate, token_windows
from advisor.backends.measure.timing import Clock
from advisor.backends.model.load import load_session, read_model_config, trained_tokens
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.processes.events import Event, Log, Measured
from advisor.backends.processes.jobs import Chosen, RungJob, repeat_step
from advisor.backends.technique import Technique
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import open_regular
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.run import Recipe

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

MAX_TEXT_BYTES = 8 * 1024**2
"""Longer texts are truncated: prompts and quality windows need no more."""


def measure_rung(job: RungJob, emit: Callable[[Event], None], begin_part: Callable[[], None] = lambda: None) -> None:
    """Measure speed and memory, then quality, and emit each as soon as it is known.

    `begin_part` is called before loading, every repeat and quality, and returns when that part may begin.
    """
    begin_part()
    clock = Clock(time.monotonic(), None, emit)
    clock.report("load", 0, 1)
    session = prepare(job)
    tokens = tokenise(session, Path(job.text_file))
    clock.report("load", 1, 1)
    reset_peak(session.device)
    served = serve_workload(session, job.workload, job.recipe, tokens.tolist(), _reporting(clock, job.recipe), begin_part)
    choices = session.autotuner.reasons if session.autotuner is not None else ()
    for choice in choices:
        emit(Log(text=f"attention of {choice}"))
    metrics = served.metrics.model_copy(update=_memory(session))
    emit(Measured(metrics=metrics, samples=served.samples, choices=choices, pace_s=served.pace_s, repeats=served.repeats))
    if not job.measures_quality:
        return
    begin_part()
    _measure_quality(job, session, tokens, clock, emit)


def _reporting(clock: Clock, recipe: Recipe) -> OnProgress:
    """Reports progress, with the time left of all repeats where the step is one of them."""
    position_of = {repeat_step(repeat, recipe): repeat for repeat in range(recipe.repeats)}

    def report(step: str, done: int, total: int) -> None:
        if step in position_of:
            clock.extrapolate((position_of[step] + done / max(total, 1)) / recipe.repeats)
        clock.report(step, done, total)

    return report


def prepare(job: RungJob) -> LoadedModel:
    """Load the model and apply the job's techniques in order."""
    session = load_session(
        Path(job.folder),
        device=job.device,
        max_tokens=job.workload.longest_tokens,
        max_sequences=job.max_sequences,
        draft_folder=Path(job.draft_folder) if job.draft_folder else None,
        dtype=job.dtype,
    )
    for chosen in job.techniques:
        session = _technique(chosen).apply(session)
    return session


def _technique(chosen: Chosen) -> Technique:
    from advisor.backends.techniques import by_name  # imports every technique; a job without techniques needs none

    return by_name(chosen.name, dict(chosen.options))


def tokenise(session: LoadedModel, text_file: Path, *, limit_bytes: int = MAX_TEXT_BYTES) -> "torch.Tensor":
    """Token ids [N] of the text, at most `limit_bytes` of it. Raises `AdvisorError` `text-not-found` or `not-utf8`."""
    import torch

    try:
        with open_regular(text_file) as file:
            content = file.read(limit_bytes)
        # a character that the bound cuts in two is left out
        text = codecs.getincrementaldecoder("utf-8")().decode(content, final=len(content) < limit_bytes)
    except UnicodeDecodeError as error:
        raise AdvisorError("not-utf8", f"the text {text_file} is not UTF-8 at byte {error.start}", exit_code=ExitCode.USAGE) from error
    except OSError as error:
        raise AdvisorError(
            "text-not-found",
            f"cannot read the text {text_file}: {(error.strerror or str(error)).lower()}",
            exit_code=ExitCode.MISSING,
            file=str(text_file),
        ) from error
    return torch.tensor(session.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=torch.int64)


def _memory(session: LoadedModel) -> dict[str, Value]:
    return {
        "peak_memory_gib": Value.exact(peak_bytes(session.device) / GIB, Basis.MEASURED),
        "weights_gib": Value.exact(weight_bytes(session) / GIB, Basis.MEASURED),
    }


def _measure_quality(job: RungJob, session: LoadedModel, tokens: "torch.Tensor", clock: Clock, emit: Callable[[Event], None]) -> None:
    """Compare with the scores that the baseline's rung wrote; without them no quality is measured."""
    file = Path(job.reference_file)
    if job.is_baseline:
        longest = trained_tokens(read_model_config(session.folder)) or len(tokens)
        windows = token_windows(tokens, tokens_wanted=job.recipe.quality_tokens, longest=longest)
        metrics: Metrics = measure_baseline(session, windows, file, lambda done, total: clock.report("quality", done, total))
    elif (attended := _attended_tokens(session)) is not None and attended >= WINDOW_TOKENS:
        emit(Log(text=f"quality is not measured: texts of {WINDOW_TOKENS} tokens stay within the {attended:,} that are attended to"))
        return
    elif file.is_file():
        metrics = measure_candidate(session, file, lambda done, total: clock.report("quality", done, total))
    else:
        emit(Log(text="quality is not measured: the baseline left no scores to compare with"))
        return
    emit(Measured(metrics=metrics))


def _attended_tokens(session: LoadedModel) -> int | None:
    """The most earlier tokens that a token attends to under the applied techniques; `None` for all of them."""
    retained = None if session.kv.window is None else session.kv.window + session.kv.sink_tokens
    return min((tokens for tokens in (retained, session.attention.window) if tokens is not None), default=None)
