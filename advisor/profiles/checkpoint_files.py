"""Compares what a model's config says of its weights with what its safetensors files hold, from their headers alone."""

import json
import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError
from advisor.profiles.weight_files import INDEX, TensorOnDisk, read_tensors

TOLERANCE = 0.005
"""Difference between files and config, relative to the config, above which it is stated."""
# Modules beside the language model: towers for images and sound with their projectors, and layers that predict further tokens.
_BESIDE = re.compile(
    r"(?:^|\.)(?:\w*vision\w*|\w*visual\w*|\w*audio\w*|image_newline|\w*projector|patch_\w+|connector|resampler|aligner|mtp\w*|mlp1)(?:\.|$)"
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out)\.")
_UNQUANTISED = frozenset({"BF16", "F16", "F32", "F64", "BOOL", "I64"})


def with_files(spec: ModelSpec, folder: Path) -> ModelSpec:
    """The spec with the bytes of the files in `folder`, and a warning where they differ from the config; without files, unchanged.

    An engine loads an unquantised checkpoint in the dtype of the config, whatever its files hold: their bytes are compared only.
    """
    files = tuple(sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in _weight_files(folder)))
    if not files:
        return spec
    try:
        size, quantised = _language_bytes(folder, files, spec.depth, spec.head is None)
    except AdvisorError as error:
        return replace(spec, warnings=(*spec.warnings, f"the weights' files could not be compared with the config: {error.message}"))
    if not size:
        return spec
    difference = size / spec.config_bytes - 1
    warnings = spec.warnings
    if abs(difference) > TOLERANCE:
        warnings = (
            *warnings,
            f"the files hold {size / 1e9:.4g} GB of weights, {abs(difference):.1%} {'more' if difference > 0 else 'less'} "
            f"than config.json says ({spec.config_bytes / 1e9:.4g} GB in {spec.weight_format})",
        )
    return replace(spec, warnings=warnings, file_bytes=size if quantised else None)


def _weight_files(folder: Path) -> list[Path]:
    return [path for path in (*folder.glob("*.safetensors"), folder / INDEX) if path.is_file()]


@lru_cache(maxsize=64)
def _language_bytes(folder: Path, files: tuple[tuple[str, int, int], ...], layers: int, tied: bool) -> tuple[int, bool]:
    """Bytes of the language model's tensors, and whether some are quantised. `files` is the key under which it is remembered.

    Without the files that an index names, the index's `total_size`, unless it counts other models too; then 0.
    Raises as `read_tensors` does.
    """
    if any(name.endswith(".safetensors") for name, _, _ in files):
        tensors = {name: tensor for name, tensor in read_tensors(folder).items() if _of_language_model(name, layers, tied)}
        return sum(tensor.size_bytes for tensor in tensors.values()), any(_is_quantised(tensor) for tensor in tensors.values())
    index = _index(folder)
    names, total = index.get("weight_map"), (index.get("metadata") or {}).get("total_size")
    if not isinstance(names, dict) or not isinstance(total, int) or not all(_of_language_model(name, layers, tied) for name in names):
        return 0, False
    return total, any(name.endswith(("_scale", "_scale_inv", "qweight", "weight_packed", ".scales", "absmax")) for name in names)


def _of_language_model(name: str, layers: int, tied: bool) -> bool:
    layer = _LAYER.search(name)
    if _BESIDE.search(name) or (layer is not None and int(layer[1]) >= layers):
        return False
    return not (tied and _HEAD.search(name))


def _is_quantised(tensor: TensorOnDisk) -> bool:
    return tensor.dtype not in _UNQUANTISED


def _index(folder: Path) -> dict[str, dict[str, object]]:
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return index if isinstance(index, dict) else {}
