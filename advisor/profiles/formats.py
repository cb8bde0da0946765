"""Storage formats of weights and caches: bytes per element, scales included; names as in engines and GGUF files."""

import re
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

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
    column_bits: int = 0
    """Bits for each input feature of a matrix, such as GPTQ's `g_idx`."""

    @property
    def family(self) -> str:
        """The name without group size and layout, as published measurements name formats: `int4` for `int4-g128-gptq`."""
        return self.name.partition("-")[0] if _INTEGERS.fullmatch(self.name) else self.name

    def matrix_bytes(self, n: int, k: int) -> float:
        """Bytes of a matrix of `n` output and `k` input features in a checkpoint: weights, scales, zero points and indices."""
        groups = ceil(k / (self.group_size or k))
        return (n * (k * self.bits + groups * self.scale_bits) + k * self.column_bits) / 8

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

_EXL = re.compile(r"exl[23]-(\d{1,2}(?:\.\d+)?)bpw")
_INTEGERS = re.compile(r"(?:int([2-8])|w([48])a8)-(?:g([1-9]\d{0,5})|channel)(?:-(sym|zp|gptq|hqq|mlx))?")
_BNB = re.compile(r"bnb-(?:nf4|fp4)(-dq)?")
# Bits of a scale and a zero point in each layout of a group, and bits of an input feature: the tensors of pack-quantized checkpoints
# without zero points (compressed-tensors: weight_packed, weight_scale); of AWQ, AutoRound and asymmetric pack-quantized ones (qweight,
# scales, qzeros of as many bits as a weight); of GPTQ, with an int32 `g_idx` a row of qweight; and with both in 16 bits, as
# torchao's scale_and_zero, MLX's scales and biases, HQQ and this project's own int4 have them.
_LAYOUTS = {None: (32, 0), "hqq": (32, 0), "mlx": (32, 0), "sym": (16, 0), "zp": (16, 0), "gptq": (16, 32)}
_ZERO_POINTS_PACKED = frozenset({"zp", "gptq"})
# HQQ packs ten 3-bit weights into 32 bits (hqq, core/bitpack.py: pack_3bit_32).
_HQQ_BITS = {3: 3.2}

CACHE_FORMATS = ("bf16", "fp16", "fp32", "fp8", "int8", "int4")
"""Formats of keys and values."""
CACHE_FORMAT_NAMES = {
    "f32": "fp32",
    "f16": "fp16",
    "q8_0": "int8",
    "q4_0": "int4",
    "fp8_e4m3": "fp8",
    "fp8_e5m2": "fp8",
}
"""Names of engines for them: llama.cpp's `--cache-type-k` and vLLM's `--kv-cache-dtype`. Both kinds of fp8 are one byte."""
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
        Format("mxfp6", 6, scale_bits=8, group_size=32, compute="bf16"),
        Format("mxfp8", 8, scale_bits=8, group_size=32, compute="fp8"),
        Format("bnb-int8", 8, scale_bits=32),
        *(Format(f"gguf-{name}", bits, compute="fp16") for name, bits in _GGUF.items()),
    )
}


@lru_cache(maxsize=256)
def weight_format(name: str) -> Format:
    """The format of a name. Raises `AdvisorError` `unknown-format` for any other than these.

    Besides `FORMATS`: `intB-gN` has B bits in groups of N, `intB-channel` in rows, `wBa8-...` with 8-bit activations, each with the
    layout of its scales in a suffix `-sym`, `-zp`, `-gptq`, `-hqq` or `-mlx`; `bnb-nf4` and `bnb-fp4` are those of bitsandbytes, `-dq` with
    double quantisation; `exl2-Nbpw` and `exl3-Nbpw` have N bits a weight.
    """
    if name in FORMATS:
        return FORMATS[name]
    if integers := _INTEGERS.fullmatch(name):
        return _integers(name, integers)
    if bnb := _BNB.fullmatch(name):
        # A block of 64 has an fp32 scale; double quantisation stores it in 8 bits, with an fp32 scale for 256 of them.
        return Format(name, 4 + (32 / 256 / 64 if bnb[1] else 0), scale_bits=8 if bnb[1] else 32, group_size=64)
    if (exl := _EXL.fullmatch(name)) and float(exl[1]) > 0:
        return Format(name, float(exl[1]), compute="fp16")
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


def _integers(name: str, match: re.Match[str]) -> Format:
    bits, group, layout = int(match[1] or match[2]), match[3], match[4]
    scale_bits, column_bits = _LAYOUTS[layout]
    return Format(
        name,
        _HQQ_BITS.get(bits, bits) if layout == "hqq" else bits,
        scale_bits=scale_bits + (bits if layout in _ZERO_POINTS_PACKED else 0),
        group_size=int(group) if group else None,
        compute="int8" if match[2] else "bf16",
        column_bits=column_bits,
    )


def check_cache_format(name: str) -> str:
    """Return the cache format of a name, which may be an engine's. Raises `AdvisorError` `unknown-format` for any other."""
    format = CACHE_FORMAT_NAMES.get(name, name)
    if format not in CACHE_FORMATS:
        raise AdvisorError(
            "unknown-format",
            f"unknown cache format `{name}`",
            exit_code=ExitCode.USAGE,
            help=("choose from " + ", ".join((*CACHE_FORMATS, *CACHE_FORMAT_NAMES)),),
            field="kv",
            action=ErrorAction.CHOOSE,
        )
    return format


def parse_weights(name: str) -> tuple[str, int | None]:
    """The format and group size in a name such as `int4-g64`. Raises `AdvisorError` `unknown-format`."""
    weight_format(name)
    grouped = re.fullmatch(r"int4-g(\d+)", name)
    return ("int4", int(grouped[1])) if grouped else (name, None)


GIB = 2**30
"""Bytes of a gibibyte (IEC 80000-13)."""
