"""Arithmetic in fp32."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Deployment
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import dtype_not_chosen
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class DtypeFp32(Technique):
    """Computes in 32-bit floats: weights that are not quantised, activations and the cache take four bytes each.

    Helps when: the processor has no instructions for bf16 (AVX2 only) and emulates it: prompts take about a quarter of the time.
    Hurts when: the device multiplies bf16 or fp16 itself, or memory or its bandwidth binds: every byte is read twice.
    Source: vLLM's `--dtype`; torch's CPU operators, which convert 16-bit floats one row at a time without such instructions.
    """

    name: ClassVar[str] = "dtype-fp32"
    slot: ClassVar[Slot] = Slot.DTYPE
    sources: ClassVar[tuple[str, ...]] = ("vLLM --dtype",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (1024, 128, 1), accepted=False, says="checkpoint is in fp8"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a quantised checkpoint, an engine without the type, and a device on which another type is as fast in fewer bytes."""
        return dtype_not_chosen(request, deployment, "fp32")

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Weights, activations and cache in fp32, where they are not quantised."""
        return deployment.in_dtype("fp32")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: every 16-bit value has an fp32 one."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """Load the model again, in fp32. Raises `AdvisorError` as `load_session` does."""
        from advisor.backends.model.load import in_dtype  # loads torch

        return in_dtype(session, "fp32")
