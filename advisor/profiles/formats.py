"""Storage formats of weights and caches: bytes per element, scales included; names as in engines and GGUF files."""

import re
from dataclasses import dataclass
from functools import lru_cache

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode


@dataclass(frozen=True, slots=True)
class Format:
    """A storage format: `bits` per element, and `scale_bits` for each group of `group_size` elements."""

    name: str
    bits: float
    scale_bits: int = 0
    group_size: int | None = None
    compute: str = "bf16"
    """Format in which products of these weights are computed: the data-sheet peak that bounds them."""

    def bytes_per_element(self, group_size: int | None = None, row_elements: int | None = None) -> float:
        """Bytes of one element with its share of the scales.

        `group_size` overrides the format's own; without either, one scale serves a row of `row_elements`.
        """
        group = group_size or self.group_size or row_elements
        scales = self.scale_bits / group if group and self.scale_bits else 0.0
        return (self.bits + scales) / 8


# Bits per weight of GGUF types follow from their block layouts (llama.cpp, ggml-common.h): e.g. q4_k is 144 bytes per 256.
_GGUF = {
    "f32": 32.0, "f16": 16.0, "bf16": 16.0, "q8_0": 8.5, "q6_k": 6.5625, "q5_0": 5.5, "q5_1": 6.0, "q5_k_m": 5.69, "q5_k_s": 5.54,
    "q4_0": 4.5, "q4_1": 5.0, "q4_k_m": 4.85, "q4_k_s": 4.58, "q3_k_l": 4.27, "q3_k_m": 3.91, "q3_k_s": 3.50, "q2_k": 3.35,
    "iq4_xs": 4.25, "iq4_nl": 4.5, "iq3_m": 3.66, "iq3_s": 3.44, "iq3_xs": 3.30, "iq3_xxs": 3.06, "iq2_m": 2.70, "iq2_s": 2.50,
    "iq2_xs": 2.31, "iq2_xxs": 2.06, "iq1_m": 1.75, "iq1_s": 1.56,
}  # fmt: skip

_EXL2 = re.compile(r"exl2-(\d{1,2}(?:\.\d+)?)bpw")
_INT4 = re.compile(r"int4-g([1-9]\d{0,5})")

CACHE_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "int4")
"""Formats of keys and values."""
RECENT_PAGES = 2
"""Newest pages of each sequence that this project's int4 cache stores in the model's format: the last, and one for drafts."""
CONTIGUOUS_PAGE_TOKENS = 64
"""Tokens of such a page in a contiguous layout."""

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("fp32", 32, compute="fp32"),
        Format("bf16", 16),
        Format("fp16", 16, compute="fp16"),
        Format("fp8", 8, scale_bits=32, compute="fp8"),
        Format("int8", 8, scale_bits=16),
        Format("int8-w8a8", 8, scale_bits=32, compute="int8"),
        Format("int4", 4, scale_bits=32, group_size=128),
        Format("w4a8", 4, scale_bits=32, group_size=128, compute="int8"),
        Format("nvfp4", 4, scale_bits=8, group_size=16, compute="fp4"),
        Format("mxfp4", 4, scale_bits=8, group_size=32, compute="bf16"),
        *(Format(f"gguf-{name}", bits, compute="fp16") for name, bits in _GGUF.items()),
    )
}


@lru_cache(maxsize=256)
def weight_format(name: str) -> Format:
    """The format named `name`; `int4-gN` has groups of N, `exl2-Nbpw` N bits a weight. Raises `AdvisorError` for an unknown name."""
    if name in FORMATS:
        return FORMATS[name]
    if grouped := _INT4.fullmatch(name):
        return Format(name, 4, scale_bits=32, group_size=int(grouped[1]))
    if (exl2 := _EXL2.fullmatch(name)) and float(exl2[1]) > 0:
        return Format(name, float(exl2[1]), compute="fp16")
    from difflib import get_close_matches  # only an error needs it

    near = get_close_matches(name.lower(), sorted(FORMATS), n=3, cutoff=0.65)
    raise AdvisorError(
        "unknown-format",
        f"unknown weight format `{name}`",
        exit_code=ExitCode.USAGE,
        help=(*([f"did you mean {', '.join(near)}?"] if near else []), f"choose from {', '.join(sorted(FORMATS))}, int4-gN, exl2-Nbpw"),
        field="weights",
        action=ErrorAction.CHOOSE,
    )


def check_cache_format(name: str) -> str:
    """Return the name of a cache format. Raises `AdvisorError` `unknown-format` for any other."""
    if name not in CACHE_FORMATS:
        raise AdvisorError(
            "unknown-format",
            f"unknown cache format `{name}`",
            exit_code=ExitCode.USAGE,
            help=("choose from " + ", ".join(CACHE_FORMATS),),
            field="kv",
            action=ErrorAction.CHOOSE,
        )
    return name


def parse_weights(name: str) -> tuple[str, int | None]:
    """The format and group size in a name such as `int4-g64`. Raises `AdvisorError` `unknown-format`."""
    weight_format(name)
    if name.startswith("int4-g"):
        return "int4", int(name[6:])
    return name, None


GIB = 2**30
"""Bytes of a gibibyte (IEC 80000-13)."""
