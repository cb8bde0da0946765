"""Reads the configurations of ExLlamaV2 and V3: average bits of a weight, and bits of the head."""

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.quantisation.module import Module, Quantisation
from advisor.profiles.architectures.quantisation.patterns import expression


def exl(fields: Fields, method: str) -> Quantisation:
    """The quantisation of `exl2` or `exl3`. Raises `AdvisorError` `model-config` naming the key at fault.

    Both converters quantise every linear layer and the head (`head_bits`, 6 by default); embeddings and routers stay as they are.
    EXL3 lists the bits of each matrix in `tensor_storage`; `module_include` holds expressions for those that are quantised.
    """
    bits, head_bits = _number(fields, "bits"), _number(fields, "head_bits", default=6.0)
    stored = fields.inner("tensor_storage")
    by_path = {path: entry for path in (stored.values if stored else ()) if stored and (entry := _stored(stored, path)) is not None}

    included = [expression(fields, str(text)) for text in fields.items("module_include") or []]

    def resolve(module: Module) -> str | None:
        if module.kind in ("embedding", "router") or (included and not any(pattern.search(module.path) for pattern in included)):
            return None
        default = head_bits if module.kind == "head" else bits
        return f"{method}-{_text(by_path.get(module.path, default))}bpw"

    return Quantisation(resolve=resolve)


def _stored(stored: Fields, path: str) -> float | None:
    entry = stored.inner(path)
    return _number(entry, "bits_per_weight", default=16.0) if entry and "bits_per_weight" in entry.values else None


def _number(fields: Fields, name: str, *, default: float | None = None) -> float:
    value = fields.values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 16:
        raise fields.problem(f"`{name}` is {value!r}; bits from 0 to 16 are needed")
    return float(value)


def _text(bits: float) -> str:
    return f"{bits:.2f}".removesuffix("0")
