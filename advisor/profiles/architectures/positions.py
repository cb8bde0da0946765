"""The position encoding of a model, by its `model_type` and the keys of its rotary embedding."""

from advisor.profiles.architectures.fields import Fields, shown

LEARNED = frozenset({"gpt2", "opt"})
"""Learned position embeddings."""
LINEAR = frozenset({"mpt", "bloom"})
"""ALiBi: biases of the scores that are linear in the distance."""
INTERLEAVED = {
    "gptj", "deepseek_ref", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "kimi_linear", "glm_moe_dsa",
    "glm4_moe_lite", "youtu", "longcat_flash", "cohere", "ernie4_5", "ernie4_5_moe", "glm", "glm4", "glm4v_text", "helium",
}  # fmt: skip
"""Rotary over neighbouring elements 2i and 2i + 1; elsewhere element i pairs with i + R/2."""
SOME_LAYERS = frozenset({"llama4_text", "smollm3", "cohere2", "cohere2_moe", "exaone4", "exaone_moe", "afmoe"})
"""Rotary in some layers, no position encoding in the others (NoPE)."""
NONE = frozenset({"jamba", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})
"""No position encoding; recurrent layers know the order of tokens."""
BY_LENGTH = frozenset({"dynamic", "longrope", "su"})
"""Values of `rope_type` whose angles depend on the length of the sequence."""


def positions_of(fields: Fields) -> str:
    """`rotary` where every layer rotates halves of a head by fixed angles, else a description such as `learned` or `rotary by length`.

    Reads `model_type`, `alibi`, and `rope_type` or `type` of `rope_parameters` or `rope_scaling`.
    """
    model_type = fields.word("model_type")
    if model_type in LEARNED:
        return "learned"
    if model_type in LINEAR or (model_type == "falcon" and fields.flag("alibi", default=False)):
        return "linear"
    if model_type in INTERLEAVED:
        return "rotary of neighbouring pairs"
    if model_type in SOME_LAYERS:
        return "rotary in some layers only"
    if model_type in NONE or (model_type == "granitemoehybrid" and fields.values.get("position_embedding_type") != "rope"):
        return "none"
    angles = fields.values.get("rope_parameters") or fields.values.get("rope_scaling") or {}
    rope_type = angles.get("rope_type", angles.get("type")) if isinstance(angles, dict) else None
    if rope_type is not None and not isinstance(rope_type, str):
        raise fields.problem(f"`rope_type` is {shown(rope_type)}; a text is needed")
    return "rotary by length" if rope_type in BY_LENGTH else "rotary"
