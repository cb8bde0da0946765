"""What every technique answers: when it refuses, what it changes on paper, what it costs in quality, how it is applied."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from advisor.backends.deployment import Deployment
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.evidence import Evidence, Prior
from advisor.profiles.request import Request

if TYPE_CHECKING:  # a session holds torch modules; planning must not load them
    from advisor.backends.model.loaded_model import LoadedModel


class Slot(IntEnum):
    """One choice each; the order is the order of application."""

    ARCHITECTURE = 0
    WEIGHTS = 1
    ATTENTION = 2
    KV_LAYOUT = 3
    KV_FORMAT = 4
    KV_EVICTION = 5
    KV_REUSE = 6
    DECODING = 7
    BATCHING = 8
    PARALLEL = 9
    TRAINING = 10

    @property
    def record(self) -> str:
        """The field of `Deployment`, and of a loaded model, that techniques of this slot change."""
        return _RECORDS[self]


_RECORDS = {
    Slot.ARCHITECTURE: "attention",
    Slot.WEIGHTS: "weights",
    Slot.ATTENTION: "attention",
    Slot.KV_LAYOUT: "kv",
    Slot.KV_FORMAT: "kv",
    Slot.KV_EVICTION: "kv",
    Slot.KV_REUSE: "kv",
    Slot.DECODING: "decoding",
    Slot.BATCHING: "batching",
    Slot.PARALLEL: "parallel",
}


@dataclass(frozen=True, slots=True)
class QualityEffect:
    """Expected perplexity increase over the unmodified model in percent, with its 90 % range and where it comes from.

    Where `tasks` names benchmarks, it is the share of their accuracy that is lost.
    """

    loss_pct: float = 0.0
    low_pct: float = 0.0
    high_pct: float = 0.0
    sources: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    """What it was measured on."""


LOSSLESS = QualityEffect()


def added(effects: Sequence[QualityEffect]) -> QualityEffect:
    """The losses added; the ranges as if they were independent."""
    if not effects:
        return LOSSLESS
    loss = sum(effect.loss_pct for effect in effects)
    below = math.hypot(*(effect.loss_pct - effect.low_pct for effect in effects))
    above = math.hypot(*(effect.high_pct - effect.loss_pct for effect in effects))
    sources = tuple(dict.fromkeys(source for effect in effects for source in effect.sources))
    tasks = tuple(dict.fromkeys(task for effect in effects for task in effect.tasks))
    return QualityEffect(loss, max(loss - below, 0.0), loss + above, sources, tasks)


@dataclass(frozen=True, slots=True)
class Case:
    """A request on a shipped model that a technique accepts, or refuses with a sentence that holds `says`."""

    model: str
    workload: tuple[int, int, int]
    """Prompt tokens, output tokens, concurrency."""
    accepted: bool
    says: str = ""
    after: tuple[str, ...] = ()
    """Techniques already in the deployment when the question is put."""
    required: bool = False
    """Whether the request names the technique as one that must be in."""
    shared_prefix_tokens: int | None = None


@dataclass(frozen=True)
class Technique:
    """One way to change a deployment. Subclasses are frozen dataclasses whose fields are their options."""

    name: ClassVar[str]
    slot: ClassVar[Slot]
    sources: ClassVar[tuple[str, ...]]
    cases: ClassVar[tuple[Case, ...]]
    covers: ClassVar[tuple[str, ...]] = ()
    """Techniques of the slot, named after it, that a search need not try where this one is taken: it is never worse than they are."""

    @abstractmethod
    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """A sentence with the numbers that rule the technique out here, or `None`."""

    def change(self, record: Any, /) -> Any:
        """The record of the technique's slot, with the technique in it.

        `record` is the part of a deployment that `Slot.record` names: a `Weights`, `Attention`, `KvCache`, `Decoding` or `Batching`.
        Must not change anything else. Techniques that need the rest of the deployment override `sketch` and `apply` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} implements neither `change` nor `sketch` and `apply`")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """The deployment with this technique in its slot. Called only where `refuse` returned `None`.

        Pure: no file is read but the published evidence, and no time or size is computed.
        """
        return deployment.with_record(self.slot.record, self.change(getattr(deployment, self.slot.record)))

    @abstractmethod
    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """What the technique is expected to cost in quality, until it is measured."""

    def apply(self, session: "LoadedModel") -> "LoadedModel":
        """The loaded model with the same change, by default `change` of the record of its slot.

        Techniques that change modules or load more (quantised weights, a draft model) override it. Raises `AdvisorError` where the
        machine lacks what the technique needs.
        """
        return replace(session, **{self.slot.record: self.change(getattr(session, self.slot.record))})

    def variants(self) -> "tuple[Technique, ...]":
        """The settings of this technique that a search tries; just itself unless overridden."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Explanation:
    """A technique's docstring, taken apart: what it does, when it helps, when it hurts, where it comes from."""

    does: str
    helps_when: str
    hurts_when: str
    source: str
    options: dict[str, str] = field(default_factory=dict)


def explanation(technique: Technique) -> Explanation:
    """Read the four parts of a technique's docstring."""
    parts = {"does": "", "Helps when": "", "Hurts when": "", "Source": ""}
    current = "does"
    for line in (technique.__doc__ or "").splitlines():
        text = line.strip()
        for head in ("Helps when", "Hurts when", "Source"):
            if text.startswith(head):
                current, text = head, text[len(head) :].lstrip(": ")
        parts[current] = f"{parts[current]} {text}".strip()
    options = {name: str(getattr(technique, name)) for name in (option.name for option in fields(technique))}
    return Explanation(parts["does"], parts["Helps when"], parts["Hurts when"], parts["Source"], options)


def quality_prior(evidence: Evidence, model: ModelSpec, effect: str) -> QualityEffect:
    """The published loss of `effect` on models of this size, trained on as many tokens."""
    prior = evidence.quality(effect, model.parameters, model=model.id)
    assert prior is not None, f"no published quality for {effect}"
    return QualityEffect(prior.middle, prior.low, prior.high, prior.sources, prior.tasks)


def forgetting_prior(evidence: Evidence, model: ModelSpec, effect: str, *, reach: int, longest: int) -> QualityEffect:
    """The published loss of `effect` for a reach of so many tokens: that loss as the worst, nothing as the best.

    What was published are sequences of which most was out of reach. The first `reach` tokens of the longest sequence miss nothing:
    the log-likelihood that is lost is taken to be in proportion to the share of the others.
    """
    prior = quality_prior(evidence, model, effect)
    share = max(1 - reach / longest, 0.0)
    return replace(prior, loss_pct=100 * math.expm1(share * math.log1p(prior.loss_pct / 100)), low_pct=0.0)


@lru_cache(maxsize=64)
def acceptance_prior(evidence: Evidence, effect: str) -> Prior:
    """The published share of drafted positions that is accepted."""
    prior = evidence.acceptance(effect)
    assert prior is not None, f"no published acceptance for {effect}"
    return prior
