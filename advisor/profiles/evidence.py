"""Published effects of techniques: what they cost in quality and how often drafts are accepted. A source per row."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

FOLDER = Path(__file__).with_name("evidence")
SIZE_SCALE = 1.0
"""Distance in size, as the natural logarithm of the ratio, over which the weight of a row falls to 1/e."""
TOKENS_SCALE = 0.5
"""The same for the tokens that a model was trained on: weights that hold more lose more when they are rounded."""
FEW_ROWS = 3
"""Fewer rows say nothing of the spread between models: the range is then from a half to twice the middle, at least."""
HELD_BY_WEIGHTS = "weights:"
"""Effects on weights, which hold what was learnt; a cache holds a prompt, and how it rounds does not depend on that."""
UNKNOWN_TOKENS = 1.0
"""Distance in that scale to a model that nobody told the tokens of."""


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One published before-and-after. `loss_pct` is the perplexity increase, or the relative loss of an accuracy."""

    effect: str
    model: str
    parameters_b: float
    loss_pct: float
    source: str
    task: str
    """What was measured: `perplexity`, or the benchmark whose accuracy it is."""

    def distance(self, parameters: int, tokens_t: float | None) -> float:
        """How unlike the row's model is one of that size and, where weights are changed, trained on so many trillions of tokens."""
        size = abs(math.log(parameters / 1e9) - math.log(self.parameters_b)) / SIZE_SCALE
        if not self.effect.startswith(HELD_BY_WEIGHTS):
            return size
        own = trained_tokens(self.model)
        if own is None or tokens_t is None:
            return size + UNKNOWN_TOKENS
        return size + abs(math.log(own / tokens_t)) / TOKENS_SCALE


@dataclass(frozen=True, slots=True)
class AcceptanceRow:
    """One published speculation: tokens gained per verification step of `draft_tokens` positions."""

    effect: str
    draft_tokens: int
    tokens_per_step: float
    source: str

    @property
    def acceptance(self) -> float:
        """The share `a` that solves tokens_per_step = (1 − a^(k+1))/(1 − a), positions independent (Leviathan et al. 2023)."""
        return _acceptance(self.tokens_per_step, self.draft_tokens)


@dataclass(frozen=True, slots=True)
class Prior:
    """Median and 90 % range of an effect, with the sources it was read from."""

    middle: float
    low: float
    high: float
    sources: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    """What it was measured on."""


@lru_cache(maxsize=1024)
def _acceptance(tokens_per_step: float, draft_tokens: int) -> float:
    low, high = 0.0, 0.999
    for _ in range(40):
        middle = (low + high) / 2
        if expected_tokens(middle, draft_tokens) < tokens_per_step:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def expected_tokens(acceptance: float, draft_tokens: int) -> float:
    """Tokens per verification step: (1 − a^(k+1))/(1 − a) (Leviathan et al. 2023, equation 1)."""
    if acceptance >= 1:
        return draft_tokens + 1.0
    return (1 - acceptance ** (draft_tokens + 1)) / (1 - acceptance)


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """All published effects."""

    quality_rows: tuple[QualityRow, ...]
    acceptance_rows: tuple[AcceptanceRow, ...]
    drafts: tuple[tuple[str, str], ...]
    """Target model and the draft model that shares its tokenizer."""

    def quality(self, effect: str, parameters: int, *, model: str = "", task: str | None = None) -> Prior | None:
        """Loss in percent to expect of `effect` on a model of that size and name, on `task` where one is given.

        Models of a like size count most, and for weights those trained on as many tokens. `None` when nothing was published.
        """
        rows = [row for row in self.quality_rows if row.effect == effect and task in (None, row.task)]
        if not rows:
            return None
        tokens_t = trained_tokens(model)
        weights = [math.exp(-row.distance(parameters, tokens_t)) for row in rows]
        losses = [row.loss_pct for row in rows]
        middle, low, high = (weighted_quantile(losses, weights, q) for q in (0.5, 0.05, 0.95))
        if len(rows) < FEW_ROWS:
            low, high = min(low, middle / 2), max(high, 2 * middle)
        sources, tasks = (tuple(dict.fromkeys(told)) for told in zip(*((row.source, row.task) for row in rows), strict=True))
        return Prior(max(middle, 0.0), max(low, 0.0), max(high, 0.0), sources, tasks)

    def acceptance(self, effect: str) -> Prior | None:
        """Share of drafted positions accepted; `None` when nothing was published."""
        rows = [row for row in self.acceptance_rows if row.effect == effect]
        if not rows:
            return None
        shares = [row.acceptance for row in rows]
        middle, low, high = (weighted_quantile(shares, [1.0] * len(shares), q) for q in (0.5, 0.05, 0.95))
        # The spread over tasks is wider than the spread over models: Spec-Bench reports ±25 % around the overall figure.
        return Prior(middle, 0.75 * low, min(1.25 * high, 0.95), tuple(dict.fromkeys(row.source for row in rows)))

    def draft_for(self, model: str) -> str | None:
        """The draft model that is known to share the tokenizer of `model`."""
        return dict(self.drafts).get(model)


def weighted_quantile(values: Sequence[float], weights: Sequence[float], q: float) -> float:
    """The q-quantile of weighted values, linear between the midpoints of their weights."""
    order = sorted(range(len(values)), key=values.__getitem__)
    total, passed, points = sum(weights), 0.0, []
    for i in order:
        points.append(((passed + weights[i] / 2) / total, values[i]))
        passed += weights[i]
    if q <= points[0][0]:
        return points[0][1]
    for (q0, v0), (q1, v1) in pairwise(points):
        if q <= q1:
            return v0 + (v1 - v0) * (q - q0) / (q1 - q0)
    return points[-1][1]


def _loss_pct(metric: str, baseline: float, value: float) -> float:
    if "ppl" in metric:
        return (value / baseline - 1) * 100
    return (1 - value / baseline) * 100


def _task(metric: str) -> str:
    return "perplexity" if "ppl" in metric else metric.split("_")[0]


@lru_cache(maxsize=512)
def trained_tokens(model: str) -> float | None:
    """Trillions of tokens that a model was trained on, by the longest published name its own begins with; `None` where untold."""
    name = model.rsplit("/", 1)[-1].lower()
    known = [row for row in table("training_tokens.csv") if name.startswith(row["model"])]
    return float(max(known, key=lambda row: len(row["model"]))["tokens_t"]) if known else None


@lru_cache(maxsize=8)
def table(name: str) -> list[dict[str, str]]:
    """The rows of a shipped table, by column."""
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=1)
def load_evidence() -> Evidence:
    """Read the shipped tables."""
    quality = tuple(
        QualityRow(
            row["effect"],
            row["model"],
            float(row["parameters_b"]),
            _loss_pct(row["metric"], float(row["baseline"]), float(row["value"])),
            row["source"],
            _task(row["metric"]),
        )
        for row in table("quality.csv")
    )
    acceptance = tuple(
        AcceptanceRow(row["effect"], int(row["draft_tokens"]), float(row["tokens_per_step"]), row["source"])
        for row in table("acceptance.csv")
    )
    return Evidence(quality, acceptance, tuple((row["target"], row["draft"]) for row in table("drafts.csv")))
