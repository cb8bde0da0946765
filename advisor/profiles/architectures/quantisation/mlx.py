"""Reads the configuration of MLX: bits and groups for every linear layer and embedding, with exceptions by path.

An exception is a mapping with its own bits, group and mode, whose defaults are those of MLX and not of the model, or false. A matrix
whose rows are no multiple of the group is not quantised (mlx/nn/layers/quantized.py and mlx_lm/utils.py: class_predicate).
"""

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.integers import MLX, group_size, integers
from advisor.profiles.architectures.quantisation.module import Module, Quantisation

_DEFAULT_GROUPS = {"affine": 64, "mxfp4": 32, "mxfp8": 32, "nvfp4": 16}


def mlx(fields: Fields) -> Quantisation:
    """The quantisation of MLX. Raises `AdvisorError` `model-config` naming the key at fault."""
    default, group = _format(fields)
    exceptions: dict[str, tuple[str, int | None] | None] = {}
    for path, value in fields.values.items():
        if isinstance(value, dict):
            exceptions[path] = _format(Fields(value, f"{fields.where}: {path}"))
        elif value is False:
            exceptions[path] = None

    def resolve(module: Module) -> str | None:
        named = next((path for path in (module.path, *module.aliases) if path in exceptions), None)
        chosen = exceptions[named] if named is not None else (default, group)
        if chosen is None:
            return None
        format, size = chosen
        return format if module.k % (size or module.k) == 0 else None

    return Quantisation(resolve=resolve)


def _format(fields: Fields) -> tuple[str, int | None]:
    mode = fields.word("mode") or "affine"
    if mode not in _DEFAULT_GROUPS:
        raise fields.problem(f"unknown `mode` {mode!r}", "known are " + ", ".join(_DEFAULT_GROUPS))
    size = group_size(fields, "group_size", default=_DEFAULT_GROUPS[mode])
    return (integers(fields, fields.count("bits", default=4), size, MLX), size) if mode == "affine" else (mode, size)
