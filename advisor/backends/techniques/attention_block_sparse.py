"""Block-sparse attention."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from advisor.backends.deployment import Attention, Deployment, Pattern
from advisor.backends.refusals import not_narrowed, without_attention
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, forgetting_prior
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request

BLOCKS = (16, 32, 64, 128)
"""Block sizes, in tokens, that the kernels support."""
RANDOM_BLOCKS = 3
"""Per block of queries, as in BigBird (arXiv 2007.14062, table 8)."""


@dataclass(frozen=True)
class AttentionBlockSparse(Technique):
    """Restricts attention to a window, the first tokens and optionally random blocks; nothing is evicted from the cache.

    Helps when: prompts are long: fully masked blocks are neither multiplied nor read.
    Hurts when: the model was not trained with the pattern: information outside it is lost.
    Source: Longformer (arXiv 2004.05150) for window and global tokens; BigBird (arXiv 2007.14062) for random blocks.
    """

    window: int = 1024
    global_tokens: int = field(default=64, metadata={"least": 0})
    random_blocks: int = field(default=0, metadata={"least": 0})
    block_tokens: int = 64

    name: ClassVar[str] = "attention-block-sparse"
    slot: ClassVar[Slot] = Slot.ARCHITECTURE
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2004.05150", "arxiv:2007.14062")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=True, required=True),
        Case("meta-llama/Meta-Llama-3.1-8B", (16384, 1024, 4), accepted=False, says="--require attention-block-sparse"),
        Case("meta-llama/Meta-Llama-3.1-8B", (512, 128, 4), accepted=False, says="No sequence is longer than 640"),
        Case("openai/gpt-oss-20b", (16384, 1024, 4), accepted=False, says="windows of their own", required=True),
        Case("state-spaces/mamba-2.8b-hf", (16384, 1024, 8), accepted=False, says="no softmax attention"),
    )

    @property
    def pattern(self) -> Pattern:
        """The options as the deployment's record."""
        return Pattern(self.window, self.global_tokens, self.random_blocks, self.block_tokens)

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses sequences that the pattern covers, layers with windows or compressed keys, and requests that do not name it."""
        if self.block_tokens not in BLOCKS:
            return f"A block must have {' or '.join(map(str, BLOCKS))} tokens, not {self.block_tokens}."
        sentence = without_attention(deployment) or not_narrowed(request, deployment, self.name, self.pattern.seen_tokens)
        if sentence is not None:
            return sentence
        mixers = [layer.mixer for layer in deployment.model.attention_layers]
        own = sum(not isinstance(mixer, SelfAttention) or mixer.window is not None for mixer in mixers)
        return f"{own} layers have windows of their own or compressed keys; a pattern replaces full attention." if own else None

    def change(self, attention: Attention, /) -> Attention:
        """Attention of every layer under the pattern."""
        return replace(attention, pattern=self.pattern)

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published scores of models not trained with the pattern, whose tokens attended to the first and the newest ones."""
        longest, reach = request.workload.longest_tokens, self.pattern.seen_tokens
        return forgetting_prior(evidence, deployment.model, "attention:local-global", reach=reach, longest=longest)

    def variants(self) -> tuple[Technique, ...]:
        """Longformer's pattern, and the same with BigBird's random blocks."""
        return (AttentionBlockSparse(), AttentionBlockSparse(random_blocks=RANDOM_BLOCKS))
