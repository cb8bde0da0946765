"""Weights on disk: reads headers of safetensors files and checks them against the sizes of the files. Loads no tensor."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import open_regular, read_text
from advisor.profiles.json_text import parse_json

INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "F4": 4, "F6_E2M3": 6,
    "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsOnDisk:
    """The tensors in a folder's safetensors files, by dtype as the files name them (`BF16`, `F8_E4M3`, ...)."""

    files: tuple[str, ...]
    elements_by_dtype: Mapping[str, int]
    bytes_by_dtype: Mapping[str, int]
    tensors: int

    @property
    def parameters(self) -> int:
        """Elements of all tensors; a byte or word of a packed format counts as one, and scales count."""
        return sum(self.elements_by_dtype.values())

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.bytes_by_dtype.values())


def weights_on_disk(folder: str | Path) -> WeightsOnDisk:
    """The weights of a model's folder, from their headers alone.

    Follows `model.safetensors.index.json` where there is one. Raises `AdvisorError`: `weights-missing`, `weights-truncated` when
    a file is shorter than its header says or no safetensors file, `weights-pickled` when there are only pickles.
    """
    elements: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    tensors = read_tensors(folder)
    for tensor in tensors.values():
        elements[tensor.dtype] += tensor.elements
        sizes[tensor.dtype] += tensor.size_bytes
    files = tuple(sorted({tensor.file for tensor in tensors.values()}))
    return WeightsOnDisk(files=files, elements_by_dtype=elements, bytes_by_dtype=sizes, tensors=len(tensors))


@dataclass(frozen=True, slots=True)
class TensorOnDisk:
    """One tensor of a safetensors file."""

    file: str
    dtype: str
    """As the file names it: `BF16`, `F8_E4M3`, ..."""
    elements: int
    size_bytes: int


def read_tensors(folder: str | Path) -> dict[str, TensorOnDisk]:
    """Every tensor of a model's folder by name, from the headers alone. Raises as `weights_on_disk` does."""
    folder = Path(folder)
    listed = _listed(folder)
    paths = sorted({folder / name for name in listed.values()}) if listed else _files(folder)
    tensors: dict[str, TensorOnDisk] = {}
    for path in paths:
        for name, tensor in read_header(path).items():
            begin, end = tensor["data_offsets"]
            tensors[name] = TensorOnDisk(path.name, tensor["dtype"], prod(tensor["shape"]), end - begin)
    missing = [name for name, file in listed.items() if name not in tensors or tensors[name].file != file]
    if missing:
        raise _broken(folder / INDEX, f"names {len(missing)} tensors that its files lack, such as `{missing[0]}` in {listed[missing[0]]}")
    return tensors


def read_header(path: Path) -> dict[str, Any]:
    """The tensors of one safetensors file: name to `dtype`, `shape` and `data_offsets`, all checked against the file's size.

    Raises `AdvisorError`: `weights-missing`, `weights-truncated`.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(size - 8, _MAX_HEADER_BYTES):
                raise _broken(path, f"is {size} bytes long, its header claims {length}" if size >= 8 else f"is {size} bytes long")
            content = file.read(length)
        header = parse_json(content)
    except FileNotFoundError as error:
        raise AdvisorError("weights-missing", f"{path} is missing", exit_code=ExitCode.MISSING, help=(_REFETCH,), file=str(path)) from error
    except OSError as error:
        raise AdvisorError("weights-missing", f"{path} cannot be read", exit_code=ExitCode.MISSING, notes=(str(error),)) from error
    except ValueError as error:
        raise _broken(path, "has a header that is not JSON") from error
    if not isinstance(header, dict):
        raise _broken(path, "has a header that is no mapping")
    header.pop("__metadata__", None)
    _check(path, header, size - 8 - length)
    return header


_REFETCH = "download the weights again"


def _check(path: Path, header: dict[str, Any], data_bytes: int) -> None:
    """Check that every tensor has a known dtype and the bytes of its shape, and that together they fill the `data_bytes` of the file."""
    end_of_all = used = 0
    for name, tensor in header.items():
        bits, begin, end, count = _claims(path, name, tensor)
        if (end - begin) * 8 != bits * count:
            raise _broken(path, f"gives `{name}` {end - begin} bytes, but its shape needs {bits * count // 8}")
        end_of_all, used = max(end_of_all, end), used + end - begin
    if end_of_all > data_bytes:
        raise _broken(path, f"lacks its last {end_of_all - data_bytes} of {end_of_all} bytes of weights")
    if used != data_bytes:
        raise _broken(path, f"holds {data_bytes} bytes of weights, its header describes {used}")


def _claims(path: Path, name: str, tensor: Any) -> tuple[int, int, int, int]:
    """Bits per element, first and last byte, and elements of one tensor, as the header claims."""
    try:
        bits, (begin, end), shape = _BITS[tensor["dtype"]], tensor["data_offsets"], tensor["shape"]
        valid = all(isinstance(entry, int) and entry >= 0 for entry in (begin, end, *shape)) and begin <= end
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path, f"describes `{name}` wrongly ({type(error).__name__}: {error})") from error
    if not valid:
        raise _broken(path, f"describes `{name}` with a negative or reversed size")
    return bits, begin, end, prod(shape)


def _listed(folder: Path) -> dict[str, str]:
    """Tensor to file, from the index; empty without one. Raises `AdvisorError` for files outside the folder."""
    path = folder / INDEX
    if not path.is_file():
        return {}
    try:
        index: Any = parse_json(read_text(path, what="index", limit_bytes=_MAX_HEADER_BYTES))
        listed = index["weight_map"]
        valid = bool(listed) and all(isinstance(file, str) and Path(file).name == file for file in listed.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, "is no index of weights: it needs a mapping `weight_map`") from error
    if not valid:
        raise _broken(path, "names files outside its folder, or none")
    return dict(listed)


def _files(folder: Path) -> list[Path]:
    """The safetensors files of a folder without an index. Raises `AdvisorError` if there is none."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    files = sorted(folder.glob("*.safetensors"))
    if files:
        return files
    pickles = sorted(path.name for path in folder.glob("*") if path.suffix in _PICKLES)
    if pickles:
        raise AdvisorError(
            "weights-pickled",
            f"{folder} holds its weights as pickles, which can run code when loaded",
            exit_code=ExitCode.MISSING,
            notes=("found " + ", ".join(pickles[:4]),),
            help=("convert them to safetensors, for example with `model.save_pretrained(folder)` of transformers",),
        )
    raise AdvisorError(
        "weights-missing",
        f"no weights in {folder}",
        exit_code=ExitCode.MISSING,
        notes=("a *.safetensors file is needed",),
        help=("name a folder that holds the model's weights",),
    )


def _broken(path: Path, problem: str) -> AdvisorError:
    return AdvisorError("weights-truncated", f"{path} {problem}", exit_code=ExitCode.MISSING, help=(_REFETCH,), file=str(path))
