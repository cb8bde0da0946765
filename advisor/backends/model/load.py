"""Loads a model folder into a `LoadedModel`: local files and safetensors only, no code from the folder, cheap checks first."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.backends.deployment import Batching
from advisor.backends.detection.host import read_host
from advisor.backends.model.loaded_model import LoadedModel
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.evidence import load_evidence
from advisor.profiles.formats import GIB
from advisor.profiles.model_store import find_model, load_json
from advisor.profiles.weight_files import weights_on_disk

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

MEMORY_HEADROOM = 1.1
"""Memory for loading, relative to the size of the weights."""
_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}
_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def load_session(
    folder: Path,
    *,
    device: str = "cpu",
    max_tokens: int,
    max_sequences: int = 1,
    draft_folder: Path | None = None,
    dtype: str | None = None,
) -> LoadedModel:
    """Load the model in `folder` onto `device` with eager attention and plain decoding.

    Weights and activations are in `dtype`: fp32, bf16 or fp16, `None` for the checkpoint's own.

    Raises `AdvisorError`: `model-not-found`, `model-config`, `tokenizer-not-found`, `tokenizer-mismatch`, `weights-truncated`
    and those of `weights_on_disk`, `model-unsupported`, `context-too-long`, `out-of-memory`.
    """
    weights_bytes = check_folder(folder, max_tokens)
    tokenizer = load_tokenizer(folder, vocabulary=_vocabulary(read_model_config(folder)))
    check_memory(int(_bytes_in(folder, weights_bytes, dtype) * MEMORY_HEADROOM), device)
    model = load_model(folder, device=device, dtype=dtype)
    return LoadedModel(
        folder=folder,
        model=model,
        tokenizer=tokenizer,
        device=model.device,
        draft_folder=draft_folder,
        max_tokens=max_tokens,
        dtype=dtype,
        batching=Batching(max_sequences=max_sequences),
    )


def check_folder(folder: Path, max_tokens: int) -> int:
    """Check a model folder without torch; returns the bytes of its weights. Raises `AdvisorError` as `load_session` does."""
    check_context(read_model_config(folder), max_tokens)
    return weights_on_disk(folder).total_bytes


def in_dtype(session: LoadedModel, dtype: str) -> LoadedModel:
    """The session with its model loaded again in `dtype`, because converting it would round twice. The earlier model is freed first.

    Raises `AdvisorError` as `load_session` does.
    """
    session.model.to("meta")
    check_memory(int(_bytes_in(session.folder, weights_on_disk(session.folder).total_bytes, dtype) * MEMORY_HEADROOM), str(session.device))
    return replace(session, model=load_model(session.folder, device=str(session.device), dtype=dtype), dtype=dtype)


def _bytes_in(folder: Path, weights_bytes: int, dtype: str | None) -> float:
    """Bytes of the weights in `dtype`, where the folder's config states the type of those on disk."""
    config = read_model_config(folder)
    stated = next((str(config[key]) for key in ("dtype", "torch_dtype") if config.get(key)), None)
    return weights_bytes * _BYTES[dtype] / _BYTES[_NAMES[stated]] if dtype and stated in _NAMES else weights_bytes


def load_model(folder: Path, *, device: str, dtype: str | None = None) -> Any:
    """The `transformers` model in `folder`, ready to run, in `dtype` or the checkpoint's own type.

    Raises `AdvisorError` `model-unsupported`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch_dtype(dtype) if dtype else "auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",
        )
    except (ValueError, KeyError, OSError) as error:
        raise AdvisorError(
            "model-unsupported",
            f"transformers cannot load {folder.name}: {(str(error).splitlines() or ['no message'])[0]}",
            exit_code=ExitCode.MISSING,
            notes=("code that comes with a model is never run",),
        ) from error
    return model.to(torch.device(device)).eval()


def torch_dtype(dtype: str) -> "torch.dtype":
    """torch's name of fp32, bf16 or fp16."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype]


def load_draft(session: LoadedModel) -> Any:
    """The session's draft model, or the one that published evidence names for its model, on the same device.

    Raises `AdvisorError`: `draft-not-found`, those of `check_draft` and of loading a model.
    """
    folder = session.draft_folder or _draft_folder(session.folder)
    weights_bytes = check_draft(session.folder, folder)
    check_memory(int(_bytes_in(folder, weights_bytes, session.dtype) * MEMORY_HEADROOM), str(session.device))
    return load_model(folder, device=str(session.device), dtype=session.dtype)


def check_draft(folder: Path, draft_folder: Path) -> int:
    """Check, without loading torch, that a draft has the vocabulary of the model in `folder`; returns the bytes of its weights.

    Raises `AdvisorError`: `tokenizer-mismatch`, and what `read_model_config` and `weights_on_disk` raise.
    """
    ours, theirs = _vocabulary(read_model_config(folder)), _vocabulary(read_model_config(draft_folder))
    if ours != theirs:
        raise AdvisorError(
            "tokenizer-mismatch",
            f"the draft in {draft_folder} has a vocabulary of {theirs}, the model one of {ours}",
            exit_code=ExitCode.MISSING,
        )
    return weights_on_disk(draft_folder).total_bytes


def _draft_folder(folder: Path) -> Path:
    """Where the weights of the draft for the model in `folder` are."""
    for target, draft in load_evidence().drafts:
        if _weights_of(target) == folder.resolve() and (draft_folder := _weights_of(draft)) is not None:
            return draft_folder
    raise AdvisorError(
        "draft-not-found",
        f"no draft model for the one in {folder} is on this machine",
        exit_code=ExitCode.MISSING,
        help=("leave decode-draft out of the plan",),
    )


def _weights_of(model: str) -> Path | None:
    """The folder with the weights of a model, if they are on this machine."""
    try:
        folder = find_model(model).folder
    except AdvisorError:
        return None
    return Path(folder) if folder is not None else None


def read_model_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`. Raises `AdvisorError` `model-not-found` or `model-config`."""
    file = folder / "config.json"
    if not file.is_file():
        raise AdvisorError("model-not-found", f"no model in {folder}: config.json is missing", exit_code=ExitCode.MISSING)
    return load_json(file)


def load_tokenizer(folder: Path, *, vocabulary: int | None) -> Any:
    """The folder's tokenizer; its tokens must fit a model of `vocabulary` entries.

    Raises `AdvisorError` `tokenizer-not-found`, `tokenizer-broken` or `tokenizer-mismatch`.
    """
    from transformers import AutoTokenizer

    _check_tokenizer_files(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises no narrower one for a broken file
        raise _broken_tokenizer(folder, error) from error
    _check_vocabulary(folder, tokenizer.get_vocab(), vocabulary)
    return tokenizer


def check_tokenizer(folder: Path) -> None:
    """Check `tokenizer.json` as `load_tokenizer` would, without transformers; a folder without that file is checked later.

    Raises `AdvisorError` as `load_tokenizer` does.
    """
    from tokenizers import Tokenizer  # planning needs no tokenizer

    _check_tokenizer_files(folder)
    file = folder / "tokenizer.json"
    if not file.is_file():
        return
    try:
        tokens = Tokenizer.from_file(str(file)).get_vocab(with_added_tokens=True)
    except Exception as error:  # the tokenizers library raises no narrower one for a broken file
        raise _broken_tokenizer(folder, error) from error
    _check_vocabulary(folder, tokens, _vocabulary(read_model_config(folder)))


def _check_tokenizer_files(folder: Path) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise AdvisorError(
            "tokenizer-not-found",
            f"no tokenizer in {folder}",
            exit_code=ExitCode.MISSING,
            help=(f"put the model's own tokenizer there: one of {', '.join(TOKENIZER_FILES)}",),
        )


def _broken_tokenizer(folder: Path, error: Exception) -> AdvisorError:
    reason = str(error).splitlines() or [type(error).__name__]
    return AdvisorError(
        "tokenizer-broken",
        f"the tokenizer in {folder} cannot be read: {reason[0]}",
        exit_code=ExitCode.MISSING,
        help=("copy the tokenizer that came with this model into the folder",),
    )


def _check_vocabulary(folder: Path, tokens: dict[str, int], vocabulary: int | None) -> None:
    """Raise where the tokenizer has more tokens than the model, or under half of them: padding adds a few per cent only."""
    highest = max(tokens.values(), default=-1) + 1
    if vocabulary is None or vocabulary / 2 < highest <= vocabulary:
        return
    raise AdvisorError(
        "tokenizer-mismatch",
        f"the tokenizer in {folder} has {highest} tokens, the model's vocabulary {vocabulary}",
        exit_code=ExitCode.MISSING,
        help=("copy the tokenizer that came with this model into the folder",),
    )


def check_context(config: dict[str, Any], max_tokens: int) -> None:
    """Raise `AdvisorError` `context-too-long` for sequences longer than the model supports."""
    longest = trained_tokens(config)
    if longest is not None and max_tokens > longest:
        raise AdvisorError(
            "context-too-long",
            f"the workload needs {max_tokens} tokens in a sequence, the model was made for {longest}",
            exit_code=ExitCode.USAGE,
        )


def trained_tokens(config: dict[str, Any]) -> int | None:
    """Longest sequence of the model's config, in tokens; `None` where it does not state one."""
    for holder in (config, config.get("text_config")):
        if isinstance(holder, dict) and isinstance(holder.get("max_position_embeddings"), int):
            return int(holder["max_position_embeddings"])
    return None


def _vocabulary(config: dict[str, Any]) -> int | None:
    for holder in (config, config.get("text_config")):
        if isinstance(holder, dict) and isinstance(holder.get("vocab_size"), int):
            return int(holder["vocab_size"])
    return None


def check_memory(needed_bytes: int, device: str) -> None:
    """Raise `AdvisorError` `out-of-memory` where the weights do not fit in free memory."""
    import torch

    free = free_bytes(torch.device(device))
    if free is not None and needed_bytes > free:
        raise AdvisorError(
            "out-of-memory",
            f"the model needs {needed_bytes / GIB:.1f} GiB to load, {free / GIB:.1f} GiB are free on {device}",
            exit_code=ExitCode.DIED,
        )


def free_bytes(device: "torch.device") -> int | None:
    """Free memory on `device`, bytes; `None` where the system does not report it."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return read_host().ram_available_bytes or None
