"""Int8 weights."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Deployment, Weights
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import head_not_quantisable, not_quantisable
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, quality_prior
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class WeightsInt8(Technique):
    """Stores every linear layer in int8 with one scale per output channel; its product takes activations in bf16, fp32 ones rounded.

    Helps when: decoding is bound by reading weights (small batches, large models); halves their memory.
    Hurts when: large batches or long prompts make products compute-bound; then converting costs more than it saves.
    Source: LLM.int8() (arXiv 2208.07339) for the error of absmax int8; torch's packed int8 CPU operator.
    """

    head: bool = False
    """Whether an output head that is not tied to the embedding is stored in int8 too."""

    name: ClassVar[str] = "weights-int8"
    slot: ClassVar[Slot] = Slot.WEIGHTS
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2208.07339",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (1024, 128, 1), accepted=False, says="fp8"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a checkpoint that is quantised already, and an engine without the format."""
        return not_quantisable(deployment, "int8") or (head_not_quantisable(deployment) if self.head else None)

    def change(self, weights: Weights, /) -> Weights:
        """Weights in int8."""
        unquantised = weights.unquantised_kinds - ({"head"} if self.head else set())
        return Weights("int8", unquantised_kinds=unquantised, dtype=weights.dtype)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published perplexity of weight-only int8, round to nearest; in torchao's rows the output head is quantised too."""
        return quality_prior(evidence, deployment.model, "weights:int8")

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Replace the linear layers in place, one at a time. Raises `AdvisorError` as `quantise_linears` does."""
        from advisor.backends.model.quantised_linear import quantise_linears  # loads torch

        quantise_linears(session.model, "int8", None, head=self.head)
        return session
