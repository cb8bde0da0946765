"""Arithmetic in fp16."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Deployment
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import dtype_not_chosen
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class DtypeFp16(Technique):
    """Computes in IEEE half precision: weights that are not quantised, activations and the cache take two bytes each.

    Helps when: the device has units for fp16 and none for bf16, as GPUs before compute capability 8.0.
    Hurts when: activations of a model trained in bf16 exceed 65,504, the largest fp16 number.
    Source: Mixed Precision Training (arXiv 1710.03740) for its range and error; vLLM's `--dtype`.
    """

    name: ClassVar[str] = "dtype-fp16"
    slot: ClassVar[Slot] = Slot.DTYPE
    sources: ClassVar[tuple[str, ...]] = ("arxiv:1710.03740",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (1024, 128, 1), accepted=False, says="checkpoint is in fp8"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a quantised checkpoint, an engine without the type, and a device on which another type is as fast in fewer bytes."""
        return dtype_not_chosen(request, deployment, "fp16")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Weights, activations and cache in fp16, where they are not quantised."""
        return deployment.in_dtype("fp16")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None that was published for models within its range; a run measures it."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Load the model again, in fp16. Raises `AdvisorError` as `load_session` does."""
        from advisor.backends.model.load import in_dtype  # loads torch

        return in_dtype(session, "fp16")
