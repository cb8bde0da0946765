"""Continuous batching with chunked prefill."""

from dataclasses import dataclass
from typing import ClassVar

from advisor.backends.deployment import Batching, BatchPolicy, Deployment
from advisor.backends.refusals import nothing_to_batch
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class BatchingChunkedPrefill(Technique):
    """Continuous batching with a token budget per step: prompts are split into chunks that fill what decoding leaves of it.

    Helps when: prompts are long and TPOT is tight: a decoding sequence waits for at most one step of the budget.
    Hurts when: the budget is small: a prompt takes many steps, each of which reads the weights and the earlier chunks again.
    Source: Sarathi-Serve (arXiv 2403.02310).
    """

    token_budget: int = 512
    """Most tokens in one step."""

    name: ClassVar[str] = "batching-chunked-prefill"
    slot: ClassVar[Slot] = Slot.BATCHING
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2403.02310",)
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=False, says="one request"),
        Case("meta-llama/Meta-Llama-3.1-8B", (256, 128, 8), accepted=False, says="no prompt would be split"),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 512), accepted=False, says="leave no room"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a single request at a time, a budget that decoding fills, and one that holds every prompt whole."""
        longest, positions = request.workload.longest_prompt_tokens, deployment.decoding_positions
        if longest + positions <= self.token_budget:
            return (
                f"Prompts of at most {longest} tokens and {positions} decoding positions fit into {self.token_budget}: "
                "no prompt would be split."
            )
        return nothing_to_batch(request, deployment, self.token_budget)

    def change(self, batching: Batching, /) -> Batching:
        """Continuous batches with this budget."""
        return Batching(BatchPolicy.CONTINUOUS, batching.max_sequences, self.token_budget)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """None: exact."""
        return LOSSLESS

    def variants(self) -> tuple[Technique, ...]:
        """Small budgets for TPOT, large ones for TTFT."""
        return tuple(BatchingChunkedPrefill(budget) for budget in (256, 512, 1024, 2048, 4096, 8192, 16384))
