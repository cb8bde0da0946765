"""Published effects of techniques: quality loss and acceptance of drafts. A source per row of the tables in `evidence/`."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from advisor.profiles.choices import UseCase

FOLDER = Path(__file__).with_name("evidence")
SIZE_SCALE = 1.0
"""Natural logarithm of the ratio of model sizes at which the weight of a row falls to 1/e."""
TOKENS_SCALE = 0.5
"""The same for the ratio of training tokens: models trained on more tokens lose more when their weights are quantised."""
UNKNOWN_USE_CASE_QUANTILE = 0.05
SIMILAR_USE_CASES = {UseCase.EXTRACTION: (UseCase.RETRIEVAL, UseCase.SUMMARIES)}
"""Use cases whose outputs repeat their prompts about as much, for those without measurements."""
FEW_ROWS = 3
"""With fewer rows the range is at least from half to twice the median, as they do not show the spread between models."""
WEIGHT_EFFECTS = "weights:"
"""Prefix of effects on weights, whose loss depends on training tokens; that of cache formats does not."""
UNKNOWN_TOKENS = 1.0
"""Distance, in units of `TOKENS_SCALE`, to a model whose training tokens are unpublished."""


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One published comparison with an unmodified model. `loss_pct` is the increase of perplexity or the relative loss of accuracy."""

    effect: str
    model: str
    parameters_b: float
    loss_pct: float
    source: str
    task: str
    """`perplexity`, or the benchmark whose accuracy was measured."""

    def distance(self, parameters: int, tokens_t: float | None) -> float:
        """Distance of the row's model to one of `parameters`, trained on `tokens_t` trillions of tokens; the latter only for weights."""
        size = abs(math.log(parameters / 1e9) - math.log(self.parameters_b)) / SIZE_SCALE
        if not self.effect.startswith(WEIGHT_EFFECTS):
            return size
        own = trained_tokens(self.model)
        if own is None or tokens_t is None:
            return size + UNKNOWN_TOKENS
        return size + abs(math.log(own / tokens_t)) / TOKENS_SCALE


@dataclass(frozen=True, slots=True)
class AcceptanceRow:
    """One published measurement of speculative decoding: tokens per verification step of `draft_tokens` drafted positions."""

    effect: str
    use_case: str
    """Kind of text that was written."""
    draft_tokens: int
    tokens_per_step: float
    source: str

    @property
    def acceptance(self) -> float:
        """Probability that a draft token is accepted, given that the one before was."""
        return acceptance_of(self.tokens_per_step, self.draft_tokens)


@dataclass(frozen=True, slots=True)
class Prior:
    """Median and 90 % range of an effect, with its sources."""

    middle: float
    low: float
    high: float
    sources: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    """Benchmarks of the rows, or `perplexity`."""


@lru_cache(maxsize=1024)
def acceptance_of(tokens_per_step: float, draft_tokens: int) -> float:
    """The acceptance a that solves tokens_per_step = (1 − a^(k+1))/(1 − a), k = `draft_tokens`: the inverse of `expected_tokens`."""
    low, high = 0.0, 0.999
    for _ in range(40):
        middle = (low + high) / 2
        if expected_tokens(middle, draft_tokens) < tokens_per_step:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def accepted_share(acceptance: float, draft_tokens: int) -> float:
    """Share of the draft positions of a step that are accepted: the expected tokens of a step but one, over the draft tokens."""
    return (expected_tokens(acceptance, draft_tokens) - 1) / draft_tokens


def expected_tokens(acceptance: float, draft_tokens: int) -> float:
    """Tokens per verification step of k = `draft_tokens` at acceptance a: (1 − a^(k+1))/(1 − a) (Leviathan et al. 2023, equation 1)."""
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
        """Loss in percent of `effect` on a model of that size and name, on `task` if given; `None` where nothing was published.

        Weighted quantiles of the rows: the weight falls exponentially with `QualityRow.distance`.
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
        sources, tasks = (tuple(dict.fromkeys(column)) for column in zip(*((row.source, row.task) for row in rows), strict=True))
        return Prior(max(middle, 0.0), max(low, 0.0), max(high, 0.0), sources, tasks)

    def acceptance(self, effect: str, use_case: UseCase) -> Prior | None:
        """Acceptance rate of drafted positions under `effect`; `None` where nothing was published.

        A use case without measurements takes those of `SIMILAR_USE_CASES`, else of all. For an unknown one the middle is the 5 %
        quantile over all, so that no plan depends on text of which nothing is known.
        """
        of_effect = [row for row in self.acceptance_rows if row.effect == effect]
        similar = (use_case, *SIMILAR_USE_CASES.get(use_case, ()))
        rows = [row for row in of_effect if row.use_case in similar] or of_effect
        if not rows:
            return None
        shares = [row.acceptance for row in rows]
        unknown = use_case == UseCase.UNKNOWN
        quantiles = (UNKNOWN_USE_CASE_QUANTILE if unknown else 0.5, 0.0 if unknown else 0.05, 0.95)
        middle, low, high = (weighted_quantile(shares, [1.0] * len(shares), q) for q in quantiles)
        return Prior(middle, 0.75 * low, min(1.25 * high, 0.95), tuple(dict.fromkeys(row.source for row in rows)))

    def draft_for(self, model: str) -> str | None:
        """The draft model with the tokenizer of `model`; `None` where the tables name none."""
        return dict(self.drafts).get(model)


def weighted_quantile(values: Sequence[float], weights: Sequence[float], q: float) -> float:
    """The q-quantile of weighted values, linear between the midpoints of their weights."""
    order = sorted(range(len(values)), key=values.__getitem__)
    total, cumulative, points = sum(weights), 0.0, []
    for i in order:
        points.append(((cumulative + weights[i] / 2) / total, values[i]))
        cumulative += weights[i]
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
    """Trillions of tokens that a model was trained on, by the longest listed name that its own begins with; `None` if unpublished."""
    name = model.rsplit("/", 1)[-1].lower()
    matches = [row for row in table("training_tokens.csv") if name.startswith(row["model"])]
    return float(max(matches, key=lambda row: len(row["model"]))["tokens_t"]) if matches else None


@lru_cache(maxsize=8)
def table(name: str) -> list[dict[str, str]]:
    """The rows of the CSV file `name` in `evidence/`, by column."""
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@lru_cache(maxsize=1)
def load_evidence() -> Evidence:
    """All published effects from the tables that ship with the package; read once."""
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
        AcceptanceRow(row["effect"], row["use_case"], int(row["draft_tokens"]), float(row["tokens_per_step"]), row["source"])
        for row in table("acceptance.csv")
    )
    return Evidence(quality, acceptance, tuple((row["target"], row["draft"]) for row in table("drafts.csv")))
