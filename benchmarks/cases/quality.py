"""What lossy techniques cost on the trained model that comes with the package, scored through the very path they serve with."""

import tempfile
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from advisor.backends.measure.quality import measure_baseline, measure_candidate, token_windows
from advisor.backends.measure.rung import tokenise
from advisor.backends.model.load import load_session
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.technique import Slot
from advisor.backends.techniques import TECHNIQUES, by_name
from advisor.profiles.model_store import DEMO, ZOO
from advisor.running.preflight import HELDOUT_TEXT
from benchmarks.harness.case import Bench, Case, Measured, Setting
from benchmarks.harness.parts import QUALITY

WINDOW = 512
"""Tokens of a stretch of text that is scored as one."""
TOKENS = 8192
UNDERNEATH = ("attention-sdpa", "kv-paged")
"""Lossless ones that some of the others need."""
Chosen = tuple[str, dict[str, object]]
LOSSY: tuple[Chosen, ...] = (
    ("weights-int8", {}),
    ("weights-int4", {"group_size": 128}),
    ("weights-int4", {"group_size": 32}),
    ("kv-fp8", {}),
    ("kv-int8", {}),
    ("kv-int4", {}),
    ("kv-window", {"window": 128}),
    ("kv-sinks", {"window": 124}),
    ("attention-sliding-window", {"window": 128}),
    ("attention-block-sparse", {"window": 64, "global_tokens": 16, "block_tokens": 16}),
    ("attention-block-sparse", {"window": 64, "global_tokens": 16, "random_blocks": 3, "block_tokens": 16}),
)
"""Techniques and options. Windows and patterns see a quarter of the stretches or less, so that they leave most of a stretch out."""
MEASURES = ("perplexity", "quality_loss_pct", "kl_divergence", "top1_agreement")


def quality_cases(chosen: Sequence[Chosen] = LOSSY, *, tokens: int = TOKENS, seconds: float = 8) -> list[Case]:
    """A case for each technique that this version has."""
    techniques = {technique.name for technique in TECHNIQUES}
    return [
        Case(part=QUALITY, name=name_of(name, options), seconds=seconds, run=partial(score, name, options, tokens))
        for name, options in chosen
        if name in techniques
    ]


def name_of(technique: str, options: dict[str, object]) -> str:
    """As in the results."""
    return " ".join([technique, *(f"{option} {value}" for option, value in options.items())]).replace("_", " ")


def score(name: str, options: dict[str, object], tokens: int, bench: Bench) -> Measured:
    """Perplexity, divergence and agreement against the unmodified model on held-out text."""
    reference = scores_of_baseline(tokens, str(bench.device))
    session = _session(str(bench.device))
    for technique in sorted((*(by_name(other) for other in UNDERNEATH), by_name(name, options)), key=lambda item: Slot(item.slot)):
        session = technique.apply(session)
    metrics = measure_candidate(session, reference, lambda done, total: None)
    values = {measure: getattr(metrics, measure) for measure in MEASURES}
    return Measured(
        settings={"technique": name, "model": "demo", "text": HELDOUT_TEXT.name, "tokens": tokens, "stretch": WINDOW, **_plain(options)},
        values={
            f"{measure}{end}": getattr(value, field)
            for measure, value in values.items()
            if value is not None
            for end, field in (("", "value"), ("_low", "low"), ("_high", "high"))
        },
    )


@lru_cache(maxsize=1)
def scores_of_baseline(tokens: int, device: str) -> Path:
    """The unmodified model's log-probabilities, in a file that goes with this process."""
    session = _session(device)
    windows = token_windows(tokenise(session, HELDOUT_TEXT), tokens_wanted=tokens, longest=WINDOW)
    file = Path(_scratch().name) / "baseline.safetensors"
    measure_baseline(session, windows, file, lambda done, total: None)
    return file


@lru_cache(maxsize=1)
def _scratch() -> Any:
    return tempfile.TemporaryDirectory(prefix="advisor-benchmark-")


def _session(device: str) -> LoadedModel:
    return load_session(ZOO / DEMO["demo"], device=device, max_tokens=WINDOW)


def _plain(options: dict[str, object]) -> dict[str, Setting]:
    return {name: value for name, value in options.items() if isinstance(value, int | float | str | bool)}
