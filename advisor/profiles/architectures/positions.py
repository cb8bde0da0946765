"""How a model tells places apart, by its type and the fields of its rotary embedding."""

from advisor.profiles.architectures.fields import Fields

LEARNED = frozenset({"gpt2", "opt"})
LINEAR = frozenset({"mpt", "bloom"})
INTERLEAVED = frozenset(
    {"gptj", "deepseek_ref", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "kimi_linear", "glm_moe_dsa"}
)
"""Neighbouring elements are pairs; elsewhere element i pairs with i + R/2."""
SOME_LAYERS = frozenset({"llama4_text", "smollm3"})
BY_LENGTH = frozenset({"dynamic", "longrope", "su"})
"""Rotary angles that depend on how long the sequence is."""


def positions_of(fields: Fields) -> str:
    """`rotary` for halves that turn by fixed angles in every layer, else what it is, in words."""
    kind = fields.word("model_type")
    if kind in LEARNED:
        return "learned"
    if kind in LINEAR or (kind == "falcon" and fields.flag("alibi", default=False)):
        return "linear"
    if kind in INTERLEAVED:
        return "rotary of neighbouring pairs"
    if kind in SOME_LAYERS:
        return "rotary in some layers only"
    angles = fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}
    told = angles.get("rope_type", angles.get("type")) if isinstance(angles, dict) else None
    return "rotary by length" if told in BY_LENGTH else "rotary"
