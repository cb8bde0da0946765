"""An int4 KV cache."""

from dataclasses import dataclass, replace
from typing import ClassVar

from advisor.backends.deployment import Deployment, KvCache
from advisor.backends.refusals import not_cacheable
from advisor.backends.technique import Case, QualityEffect, Slot, Technique, quality_prior
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import Evidence
from advisor.profiles.request import Request


@dataclass(frozen=True)
class KvInt4(Technique):
    """Stores keys and values in int4, rotated so that outliers spread, and the newest page of each sequence exact.

    Helps when: long contexts or many sequences fill the memory: a quarter of the bytes of bf16.
    Hurts when: contexts are short, as two exact pages a sequence outweigh the saving, or the limit on quality loss is tight.
    Source: QuaRot (arXiv 2404.00456) for the rotation, KIVI (arXiv 2402.02750) for the newest tokens.
    """

    name: ClassVar[str] = "kv-int4"
    slot: ClassVar[Slot] = Slot.KV_FORMAT
    sources: ClassVar[tuple[str, ...]] = ("arxiv:2404.00456", "arxiv:2402.02750")
    cases: ClassVar[tuple[Case, ...]] = (
        Case("meta-llama/Meta-Llama-3.1-8B", (8192, 128, 8), accepted=True),
        Case("deepseek-ai/DeepSeek-V3", (8192, 128, 8), accepted=False, says="latent"),
        Case("state-spaces/mamba-2.8b-hf", (8192, 128, 8), accepted=False, says="no softmax attention"),
    )

    def refuse(self, request: Request, deployment: Deployment) -> str | None:
        """Refuses latent caches, models without attention, heads of odd width, and engines without the format."""
        odd = next((width for width in _widths(deployment.model) if width % 2), None)
        if odd is not None:
            return f"A byte holds two int4 elements, and heads are {odd} wide."
        return not_cacheable(deployment, "int4")

    def change(self, kv: KvCache, /) -> KvCache:
        """The same cache in int4."""
        return replace(kv, format="int4")

    def quality(self, deployment: Deployment, evidence: Evidence, request: Request) -> QualityEffect:
        """Published perplexity with rotated int4 rows, accuracy with plain ones, as the engine keeps them."""
        rotated = "int4" in load_engine(deployment.engine).kv_rows.rotated
        return quality_prior(evidence, deployment.model, "kv:int4-rotated" if rotated else "kv:int4")


def _widths(model: ModelSpec) -> tuple[int, ...]:
    """Widths of keys and values in every layer."""
    mixers = [layer.mixer for layer in model.layers if isinstance(layer.mixer, SelfAttention)]
    return tuple(width for mixer in mixers for width in (mixer.head_dim, mixer.value_dim))
