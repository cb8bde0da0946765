"""The contract of a technique: when it refuses, what it changes, what it costs in quality, how it is applied to a loaded model."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from advisor.backends.deployment import Deployment
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.choices import UseCase
from advisor.profiles.evidence import Evidence, Prior
from advisor.profiles.request import Request

if TYPE_CHECKING:  # a loaded model holds torch modules, and planning does not load torch
    from advisor.backends.model.loaded_model import LoadedModel


class Slot(IntEnum):
    """Aspects of a deployment. A plan has at most one technique for each, applied in this order."""

    DTYPE = 0
    ARCHITECTURE = 1
    WEIGHTS = 2
    ATTENTION = 3
    KV_LAYOUT = 4
    KV_FORMAT = 5
    KV_EVICTION = 6
    KV_REUSE = 7
    DECODING = 8
    BATCHING = 9
    PARALLEL = 10
    TRAINING = 11

    @property
    def record(self) -> str:
        """The field of `Deployment`, and of a loaded model, that techniques of this slot change."""
        return _RECORDS[self]


_RECORDS = {
    Slot.DTYPE: "weights",
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
    """Expected increase of perplexity over the unmodified model in percent, with its 90 % range and its sources.

    Where `tasks` names benchmarks, the relative loss of accuracy on them instead.
    """

    loss_pct: float = 0.0
    low_pct: float = 0.0
    high_pct: float = 0.0
    sources: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    """Benchmarks or metrics that it was measured with, as `mmlu` or `perplexity`."""


LOSSLESS = QualityEffect()


def added(effects: Sequence[QualityEffect]) -> QualityEffect:
    """The sum of the losses; the ranges are combined as those of independent errors."""
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
    """A test of `Technique.refuse`: a request on a shipped model, and whether it is accepted."""

    model: str
    workload: tuple[int, int, int]
    """Prompt tokens, output tokens, concurrency."""
    accepted: bool
    says: str = ""
    """Part of the sentence with which it is refused."""
    after: tuple[str, ...] = ()
    """Techniques that are in the deployment before."""
    required: bool = False
    """Whether the request requires the technique by name."""
    shared_prefix_tokens: int | None = None


@dataclass(frozen=True)
class Technique:
    """One way to change a deployment.

    Subclasses are frozen dataclasses; their fields are the technique's options: int, bool or str, or one of them and `None`, each with a
    default. The docstring has four parts, which `advisor explain` shows: what the technique does, `Helps when:`, `Hurts when:`, `Source:`.

    Arguments that several methods take:

    request: The question: its workload (tokens of prompts and outputs, load) and limits.
    deployment: The deployment before this technique, with those of earlier slots in it.
    evidence: Published losses of quality and acceptance rates.
    session: The model in memory, with the techniques of earlier slots applied.
    """

    name: ClassVar[str]
    """As users write it: the module's name with dashes."""
    slot: ClassVar[Slot]
    sources: ClassVar[tuple[str, ...]]
    """Papers and pages, as `arxiv:2309.06180`."""
    cases: ClassVar[tuple[Case, ...]]
    """At least one accepted and one refused request; they are the technique's tests."""
    covers: ClassVar[tuple[str, ...]] = ()
    """Techniques of the same slot that are never better than this one: a search does not try them where this one is not refused."""

    @abstractmethod
    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Why the technique cannot or should not be applied: one sentence with the numbers, or `None` to accept."""

    def change(self, record: Any, /) -> Any:
        """The record of the technique's slot, with the technique in it.

        `record` is the part of a deployment that `Slot.record` names: a `Weights`, `Attention`, `KvCache`, `Decoding` or `Batching`.
        Techniques that need the rest of the deployment override `sketch` and `apply` instead.
        """
        raise NotImplementedError(f"{type(self).__name__} implements neither `change` nor `sketch` and `apply`")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """The deployment with this technique in it, by default with `change` of the slot's record.

        Called only where `refuse` returned `None`. Pure: no file is read but the published evidence, no time or size is computed.
        """
        return deployment.with_record(self.slot.record, self.change(getattr(deployment, self.slot.record)))

    @abstractmethod
    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """The expected loss of quality by this technique alone; `LOSSLESS` where outputs do not change."""

    def apply(self, session: "LoadedModel") -> "LoadedModel":
        """The loaded model with the same change as `sketch`, by default with `change` of the slot's record.

        Techniques that replace modules or load more (quantised weights, a draft model) override it; torch is imported inside. Raises
        `AdvisorError` where the machine lacks what the technique needs.
        """
        return replace(session, **{self.slot.record: self.change(getattr(session, self.slot.record))})

    def variants(self) -> "tuple[Technique, ...]":
        """The settings of options that a search tries, by default this one alone."""
        return (self,)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The four parts of a technique's docstring, and its options with their values as text."""

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
    """The published loss of `effect` on models of about as many parameters.

    `effect` is a key of the evidence tables, as `kv:fp8`. Raises `AssertionError` where nothing was published for it.
    """
    prior = evidence.quality(effect, model.parameters, model=model.id)
    assert prior is not None, f"no published quality for {effect}"
    return QualityEffect(prior.middle, prior.low, prior.high, prior.sources, prior.tasks)


def forgetting_prior(evidence: Evidence, model: ModelSpec, effect: str, *, reach: int, longest: int) -> QualityEffect:
    """The loss of `effect` where each token attends to at most `reach` tokens and sequences have up to `longest`.

    Published losses are of sequences much longer than the reach. The first `reach` tokens of a sequence lose nothing, so the loss of
    log-likelihood is scaled by the share of the others; the range goes from no loss to the published upper end.
    """
    prior = quality_prior(evidence, model, effect)
    share = max(1 - reach / longest, 0.0)
    return replace(prior, loss_pct=100 * math.expm1(share * math.log1p(prior.loss_pct / 100)), low_pct=0.0)


@lru_cache(maxsize=64)
def acceptance_prior(evidence: Evidence, effect: str, use_case: UseCase) -> Prior:
    """The published probability that a draft token is accepted, given that the one before was, in a use case."""
    prior = evidence.acceptance(effect, use_case)
    assert prior is not None, f"no published acceptance for {effect}"
    return prior
