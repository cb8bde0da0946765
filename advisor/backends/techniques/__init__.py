"""Every technique, in order of application. To add one: write its file, then list it here."""

import dataclasses
import types
import typing
from difflib import get_close_matches

from advisor.backends.technique import Technique
from advisor.backends.techniques.attention_block_sparse import AttentionBlockSparse
from advisor.backends.techniques.attention_flash import AttentionFlash
from advisor.backends.techniques.attention_flex import AttentionFlex
from advisor.backends.techniques.attention_sdpa import AttentionSdpa
from advisor.backends.techniques.attention_sliding_window import AttentionSlidingWindow
from advisor.backends.techniques.batching_chunked_prefill import BatchingChunkedPrefill
from advisor.backends.techniques.batching_continuous import BatchingContinuous
from advisor.backends.techniques.decode_draft import DecodeDraft
from advisor.backends.techniques.decode_prompt_lookup import DecodePromptLookup
from advisor.backends.techniques.dtype_bf16 import DtypeBf16
from advisor.backends.techniques.dtype_fp16 import DtypeFp16
from advisor.backends.techniques.dtype_fp32 import DtypeFp32
from advisor.backends.techniques.kv_fp8 import KvFp8
from advisor.backends.techniques.kv_int4 import KvInt4
from advisor.backends.techniques.kv_int8 import KvInt8
from advisor.backends.techniques.kv_paged import KvPaged
from advisor.backends.techniques.kv_prefix_reuse import KvPrefixReuse
from advisor.backends.techniques.kv_sinks import KvSinks
from advisor.backends.techniques.kv_window import KvWindow
from advisor.backends.techniques.weights_int4 import WeightsInt4
from advisor.backends.techniques.weights_int8 import WeightsInt8
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode

TECHNIQUES: tuple[type[Technique], ...] = (
    DtypeFp32,
    DtypeBf16,
    DtypeFp16,
    AttentionSlidingWindow,
    AttentionBlockSparse,
    WeightsInt8,
    WeightsInt4,
    AttentionFlash,
    AttentionSdpa,
    AttentionFlex,
    KvPaged,
    KvInt8,
    KvFp8,
    KvInt4,
    KvWindow,
    KvSinks,
    KvPrefixReuse,
    DecodePromptLookup,
    DecodeDraft,
    BatchingContinuous,
    BatchingChunkedPrefill,
)


def by_name(name: str, options: dict[str, object] | None = None, *, field: str = "require") -> Technique:
    """The technique `name` with these options. Raises `AdvisorError` for an unknown name or option; `field` is where it was named."""
    for technique in TECHNIQUES:
        if technique.name == name:
            return _with_options(technique, options or {}, field)
    names = [technique.name for technique in TECHNIQUES]
    near = get_close_matches(name, names, n=3)
    suggestion = (f"did you mean {', '.join(near)}?",) if near else ()
    help_lines = (*suggestion, f"choose from {', '.join(names)}")
    raise AdvisorError(
        "unknown-technique",
        f"unknown technique `{name}`",
        exit_code=ExitCode.USAGE,
        help=help_lines,
        field=field,
        action=ErrorAction.CHOOSE,
    )


def _with_options(technique: type[Technique], options: dict[str, object], field: str) -> Technique:
    fields, types_of = {option.name: option for option in dataclasses.fields(technique)}, option_types(technique)
    for option, value in options.items():
        if option not in fields or not _allowed(fields[option], types_of[option], value):
            allowed = ", ".join(f"{name} ({_kind(item, types_of[name])})" for name, item in fields.items()) or "no options"
            raise AdvisorError(
                "technique-option",
                f"{technique.name} does not take `{option}: {value}`",
                exit_code=ExitCode.USAGE,
                help=(f"it takes {allowed}", *_example(technique)),
                field=field,
                action=ErrorAction.CORRECT,
            )
    return technique(**options)


def _example(technique: type[Technique]) -> tuple[str, ...]:
    """An example of an option as text."""
    return tuple(f"write {technique.name}:{field.name}={option_text(field.default)}" for field in dataclasses.fields(technique)[:1])


def option_types(technique: type[Technique]) -> dict[str, tuple[type, ...]]:
    """The types of each option by its annotation: `int | None` is `(int, NoneType)`."""
    hints = typing.get_type_hints(technique)
    return {field.name: typing.get_args(hints[field.name]) or (hints[field.name],) for field in dataclasses.fields(technique)}


def option_text(value: object) -> str:
    """A value of an option as users write it: `true`, `none`, `128`."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _allowed(field: dataclasses.Field[object], kinds: tuple[type, ...], value: object) -> bool:
    return type(value) in kinds and (type(value) is not int or value >= _least(field))


def _kind(field: dataclasses.Field[object], kinds: tuple[type, ...]) -> str:
    names = {int: f"int from {_least(field)}", types.NoneType: "none"}
    return " or ".join(names.get(kind, kind.__name__) for kind in kinds)


def _least(field: dataclasses.Field[object]) -> int:
    """Smallest value of an int option: 1, or what the field's metadata gives as `least`."""
    least: int = field.metadata.get("least", 1)
    return least


def options_of(technique: Technique) -> dict[str, object]:
    """A technique's options by name, as a plan file writes them."""
    return {name: getattr(technique, name) for name in (field.name for field in dataclasses.fields(technique))}
