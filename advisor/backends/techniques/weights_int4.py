"""Int4 weights."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Deployment, Weights
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import head_not_quantisable, not_quantisable
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, quality_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request

GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True)
class WeightsInt4(Technique):
    """Stores every linear layer in int4, round to nearest, with a scale and a zero point per group of inputs; activations as in int8.

    Helps when: decoding is bound by reading weights, or memory is short: a quarter of the bytes of bf16. `head` stores an output
    head that is not tied to the embedding in int4 too: in a small model it is a large part of the weights.
    Hurts when: batches are large, or the limit on quality loss is tight: Llama 3 models lose several percent.
    Source: GPTQ (arXiv 2210.17323) for round to nearest as baseline and its error by group size.
    """

    group_size: int = 128
    head: bool = False

    name: ClassVar[str] = "weights-int4"
    slot: ClassVar[Slot] = Slot.WEIGHTS
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2210.17323",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("openai/gpt-oss-20b", (1024, 128, 1), accepted=False, says="mxfp4"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a checkpoint that is quantised already, and groups longer than a row."""
        shortest = min((matrix.k for matrix, _ in deployment.model.matrices()), default=0)
        if shortest < self.group_size:
            return f"Groups of {self.group_size} are longer than the shortest row, {shortest}."
        return not_quantisable(deployment, "int4") or (head_not_quantisable(deployment) if self.head else None)

    def change(self, weights: Weights, /) -> Weights:
        """Weights in int4 groups."""
        unquantised = weights.unquantised_kinds - ({"head"} if self.head else set())
        return Weights("int4", self.group_size, unquantised, weights.dtype)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published perplexity of round-to-nearest int4 at the nearest group size.

        Rows from torchao quantise the output head too, others do not: their spread covers `head`.
        """
        return quality_prior(evidence, deployment.model, f"weights:int4-g{max(self.group_size, 64)}")

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Replace the linear layers in place, one at a time. Raises `AdvisorError` as `quantise_linears` does."""
        from advisor.backends.model.quantised_linear import quantise_linears  # loads torch

        quantise_linears(session.model, "int4", self.group_size, head=self.head)
        return session

    def variants(self) -> tuple[Technique, ...]:
        """Small groups keep quality, large ones save scales, and the head's bits save more."""
        return (*(WeightsInt4(size) for size in GROUP_SIZES), WeightsInt4(head=True))
