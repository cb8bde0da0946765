"""The fastest exact attention backend."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Attention, AttentionBackend, Deployment
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import attention_not_ours, without_attention
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class AttentionFlash(Technique):
    """Computes attention by the fastest exact backend of the machine, chosen for each shape by timing every backend once.

    Helps when: the fastest backend differs by shape: fused kernels win on long prompts, batched products on many short sequences.
    Hurts when: a run is so short that the few seconds of timing before it count.
    Source: FlashAttention (arXiv 2205.14135); torch.nn.attention.sdpa_kernel lists the backends of SDPA.
    """

    name: ClassVar[str] = "attention-flash"
    slot: ClassVar[Slot] = Slot.ATTENTION
    sources: ClassVar[tuple[str, ...]] = (
        "arxiv:2205.14135",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.attention.sdpa_kernel.html",
    )
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (4096, 128, 4), accepted=True),
        Case("state-spaces/mamba2-2.7b", (4096, 128, 4), accepted=False, says="no softmax attention"),
    )

    covers: ClassVar[tuple[str, ...]] = ("attention-sdpa", "attention-flex")

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a model without softmax attention, and engines that choose their kernels themselves."""
        return attention_not_ours(deployment) or without_attention(deployment)

    def change(self, attention: Attention, /) -> Attention:
        """The backend is chosen by timing."""
        return replace(attention, backend=AttentionBackend.AUTO)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """With an autotuner, which times the backends before the first run and keeps its choices for later ones."""
        from advisor.backends.runtime.attention.autotune import Autotuner  # loads torch

        return replace(super().apply(session), autotuner=Autotuner())
