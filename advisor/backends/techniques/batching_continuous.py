"""Batches that change at every step."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Batching, Deployment
from advisor.backends.session import Session
from advisor.backends.technique import LOSSLESS, Case, QualityEffect, Slot, Technique
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Load, Request


@dataclass(frozen=True)
class BatchingContinuous(Technique):
    """Admits a request as soon as a slot is free and mixes chunks of prompts with decoding in each step.

    Helps when: several requests are in flight: none waits for the slowest of its batch.
    Hurts when: prompts are long and TPOT is tight: each chunk delays everyone who decodes; a smaller budget helps.
    Source: Orca (OSDI 2022) for iteration-level scheduling; Sarathi-Serve (arXiv 2403.02310) for chunked prefill.
    """

    token_budget: int = 512

    name: ClassVar[str] = "batching-continuous"
    slot: ClassVar[Slot] = Slot.BATCHING
    sources: ClassVar[tuple[str, ...]] = ("usenix:osdi22-yu", "arxiv:2403.02310")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 8), accepted=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (1024, 128, 1), accepted=False, says="one request"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses a single request at a time, and a budget that the decoding sequences alone exceed."""
        workload = request.workload
        if workload.load is Load.CLOSED and workload.concurrency == 1:
            return "Only one request is in flight: there is nothing to batch it with."
        sequences = deployment.batching.max_sequences * (deployment.decoding.draft_tokens + 1)
        if sequences >= self.token_budget:
            return f"{sequences} decoding positions leave nothing of a budget of {self.token_budget} tokens for prompts."
        return None

    def sketch(self, deployment: Deployment, request: Request) -> Deployment:
        """Continuous batches with this budget."""
        batching = Batching("continuous", deployment.batching.max_sequences, self.token_budget)
        return deployment.batched(batching)

    def quality(self, deployment: Deployment, evidence: Evidence) -> QualityEffect:
        """Exact."""
        return LOSSLESS

    def apply(self, session: Session) -> Session:
        """The runtime reads the choice."""
        return replace(session, batching="continuous", token_budget=self.token_budget)

    def variants(self) -> tuple[Technique, ...]:
        """Small budgets for TPOT, large ones for TTFT."""
        return tuple(BatchingContinuous(budget) for budget in (256, 512, 1024, 2048, 4096, 8192, 16384))
