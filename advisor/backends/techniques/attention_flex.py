"""Attention from torch's flex_attention."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Attention, AttentionBackend, Deployment
from advisor.backends.detection.compiler import why_not_compiled
from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.refusals import attention_not_ours, without_attention
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class AttentionFlex(Technique):
    """Computes attention with flex_attention: windows, soft caps and sinks compiled into one fused kernel that skips masked blocks.

    Helps when: the model has windows, soft caps or sinks, which other fused kernels do not support.
    Hurts when: on a CPU, where every length rounded up to a power of two is compiled once, in seconds each, before serving.
    Source: Flex Attention (arXiv 2412.05496); torch.nn.attention.flex_attention.
    """

    name: ClassVar[str] = "attention-flex"
    slot: ClassVar[Slot] = Slot.ATTENTION
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2412.05496",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("openai/gpt-oss-20b", (4096, 128, 4), accepted=True),
        Case("state-spaces/mamba2-2.7b", (4096, 128, 4), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a model without softmax attention, and engines that choose their kernels themselves."""
        return attention_not_ours(deployment) or without_attention(deployment)

    def change(self, attention: Attention, /) -> Attention:
        """The flex_attention backend."""
        return replace(attention, backend=AttentionBackend.FLEX)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def apply(self, session: LoadedModel) -> LoadedModel:
        """The runtime compiles before it serves. Raises `AdvisorError` `compiler-not-found`."""
        lacking = why_not_compiled(session.device.type)
        if lacking is not None:
            raise AdvisorError(
                "compiler-not-found",
                f"flex_attention cannot be compiled for {session.device.type}: {lacking[0]}",
                exit_code=ExitCode.MISSING,
                help=(lacking[1], "or plan again with --forbid attention-flex"),
                field="forbid",
                action=ErrorAction.GIVE,
            )
        return super().apply(session)
