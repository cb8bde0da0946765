"""Arithmetic in bf16."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Deployment
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import dtype_not_chosen
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class DtypeBf16(Technique):
    """Computes in bfloat16: weights that are not quantised, activations and the cache take two bytes each.

    Helps when: the device multiplies bf16 itself, or memory or its bandwidth binds: half the bytes of fp32.
    Hurts when: the processor has no instructions for it (AVX2 only): prompts take about four times as long as in fp32.
    Source: A Study of BFLOAT16 for Deep Learning Training (arXiv 1905.12322) for its range and error; vLLM's `--dtype`.
    """

    name: ClassVar[str] = "dtype-bf16"
    slot: ClassVar[Slot] = Slot.DTYPE
    sources: ClassVar[tuple[str, ...]] = ("arxiv:1905.12322",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (1024, 128, 1), accepted=False, says="checkpoint is in fp8"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a quantised checkpoint, an engine without the type, and a device on which another type is as fast in fewer bytes."""
        return dtype_not_chosen(request, deployment, "bf16")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Weights, activations and cache in bf16, where they are not quantised."""
        return deployment.in_dtype("bf16")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None that was published for inference of models trained in bf16; a run measures it."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Load the model again, in bf16. Raises `AdvisorError` as `load_session` does."""
        from advisor.backends.model.load import in_dtype  # loads torch

        return in_dtype(session, "bf16")
