"""Train the shipped target and draft models from Python's own standard library.

    python tools/train_zoo.py corpus WORK      split files, train the tokenizer, write the held-out text
    python tools/train_zoo.py target WORK      train the 5 M model      (about half an hour on two cores)
    python tools/train_zoo.py anneal WORK      continue it, the learning rate falling to zero (twenty minutes)
    python tools/train_zoo.py draft WORK       distil the 0.6 M draft from the target
    python tools/train_zoo.py anneal-draft WORK
    python tools/train_zoo.py publish WORK     copy bf16 folders to advisor/backends/zoo

Held-out files are chosen by a hash of their path, before anything is trained.
"""

import argparse
import hashlib
import json
import math
import shutil
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from advisor.profiles.files import write_whole

VOCABULARY = 2048
SEQUENCE_TOKENS = 1024
SHORT_TOKENS = 256
BATCH_TOKENS = 4096
WARM_UP_STEPS = 50
END = "<|end|>"
HELD_OUT_ONE_IN = 20
SKIPPED_FOLDERS = {"site-packages", "__pycache__", "encodings", "lib2to3"}
TARGET = {"hidden_size": 256, "num_hidden_layers": 6, "intermediate_size": 768, "num_attention_heads": 4, "num_key_value_heads": 2}
DRAFT = {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 384, "num_attention_heads": 2, "num_key_value_heads": 1}
ZOO = Path(__file__).resolve().parents[1] / "advisor" / "backends" / "zoo"


def library_files(root: Path) -> Iterator[Path]:
    """Every source file of the standard library, in a stable order."""
    for path in sorted(root.rglob("*.py")):
        if not SKIPPED_FOLDERS & set(path.relative_to(root).parts) and path.stat().st_size > 0:
            yield path


def is_held_out(name: str) -> bool:
    """Hold out one library module in twenty; test suites are never evaluated on."""
    if name.split("/")[0] == "test":
        return False
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


def build_corpus(work: Path) -> None:
    """Write `train.npy` (token ids), `heldout.txt` and the tokenizer folder."""
    root = Path(sysconfig.get_paths()["stdlib"])
    library, suites, held_out, held_names = [], [], [], []
    for path in library_files(root):
        name = path.relative_to(root).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if is_held_out(name):
            held_out.append(text)
            held_names.append(name)
        elif name.split("/")[0] == "test":
            suites.append(text)
        else:
            library.append(text)
    write_whole(work / "heldout.txt", "".join(held_out))
    write_whole(work / "heldout.json", json.dumps({"python": sys.version.split()[0], "files": held_names}, indent=1))
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(library, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=END, bos_token=END, pad_token=END, clean_up_tokenization_spaces=False
    )
    tokenizer.save_pretrained(work / "tokenizer")
    end = tokenizer.eos_token_id
    for name, texts in (("library", library), ("suites", suites)):
        ids = [np.array([*encoding.ids, end], dtype=np.uint16) for encoding in raw.encode_batch(texts)]
        np.save(work / f"{name}.npy", np.concatenate(ids))
        print(name, sum(map(len, texts)) / 1e6, "MB", sum(map(len, ids)) / 1e6, "M tokens", flush=True)
    heldout = [i for encoding in raw.encode_batch(held_out) for i in encoding.ids]
    np.save(work / "heldout.npy", np.array(heldout, dtype=np.uint16))
    print("held out", len(held_names), "files", len("".join(held_out).encode()), "bytes", len(heldout), "tokens", flush=True)


def batches(work: Path, passes: tuple[float, float], length: int, seed: int) -> Iterator[torch.Tensor]:
    """Shuffled windows [BATCH_TOKENS / length, length + 1] over the given number of passes of library and test suites."""
    batch = BATCH_TOKENS // length
    rng = np.random.default_rng(seed)
    windows = []
    for name, count in zip(("library", "suites"), passes, strict=True):
        ids = np.load(work / f"{name}.npy")
        while count > 0:
            offset = int(rng.integers(0, length))
            starts = np.arange(offset, len(ids) - length - 1, length)
            rng.shuffle(starts)
            windows += [ids[s : s + length + 1] for s in starts[: math.ceil(len(starts) * min(count, 1.0))]]
            count -= 1
    order = rng.permutation(len(windows))
    for i in range(0, len(order) - batch + 1, batch):
        yield torch.from_numpy(np.stack([windows[j] for j in order[i : i + batch]]).astype(np.int64))


def bits_per_byte(model: LlamaForCausalLM, work: Path, windows: int | None = None) -> float:
    """Held-out bits per byte over disjoint windows of the trained length."""
    ids = np.load(work / "heldout.npy").astype(np.int64)
    bytes_per_token = len((work / "heldout.txt").read_bytes()) / len(ids)
    starts = list(range(0, len(ids) - 1, SEQUENCE_TOKENS))[:windows]
    total, count = 0.0, 0
    model.eval()
    with torch.no_grad():
        for s in starts:
            chunk = torch.from_numpy(ids[s : s + SEQUENCE_TOKENS + 1])[None]
            if chunk.shape[1] < 2:
                continue
            logits = model(chunk[:, :-1]).logits.float()
            total += torch.nn.functional.cross_entropy(logits[0], chunk[0, 1:], reduction="sum").item()
            count += chunk.shape[1] - 1
    model.train()
    return total / count / math.log(2) / bytes_per_token


def new_model(shape: dict[str, int], work: Path) -> LlamaForCausalLM:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    config = LlamaConfig(
        vocab_size=VOCABULARY, max_position_embeddings=SEQUENCE_TOKENS, tie_word_embeddings=True, rms_norm_eps=1e-5,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, **shape,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config)


def train(
    model: LlamaForCausalLM,
    data: list[torch.Tensor],
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    save: Path,
    *,
    peak: float,
    last: float = 0.0,
) -> None:
    """Muon for matrices, AdamW for the rest; warm-up, then a linear fall of the learning rate to `last`."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=peak, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    started, losses = time.time(), []
    for step, chunk in enumerate(data):
        lr = (peak + (last - peak) * step / len(data)) * min((step + 1) / WARM_UP_STEPS, 1.0)
        loss = loss_of(chunk)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 49:
            done = (step + 1) / len(data)
            elapsed = time.time() - started
            print(
                f"step {step + 1}/{len(data)} loss {sum(losses[-50:]) / 50:.4f} {elapsed:.0f}s left {elapsed / done - elapsed:.0f}s",
                flush=True,
            )
        if step % 500 == 499:
            model.save_pretrained(save)
    model.save_pretrained(save)


def text_loss(model: LlamaForCausalLM) -> Callable[[torch.Tensor], torch.Tensor]:
    """Cross-entropy of the next token, the model's body compiled."""
    body = torch.compile(model.model, dynamic=False)

    def loss_of(chunk: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = body(chunk[:, :-1]).last_hidden_state  # type: ignore[no-untyped-call]  # a compiled module
            logits = model.lm_head(hidden)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), chunk[:, 1:].flatten())

    return loss_of


def train_target(work: Path) -> None:
    model = new_model(TARGET, work)
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    data = list(batches(work, (1.5, 0.3), SHORT_TOKENS, seed=1))[:1000]
    train(model, data, text_loss(model), work / "target", peak=4e-3, last=2.6e-3)


def anneal_target(work: Path) -> None:
    """Short windows first, then the full length that quality is measured at."""
    model = LlamaForCausalLM.from_pretrained(work / "target")
    data = [*batches(work, (0.3, 0.0), SHORT_TOKENS, seed=4), *batches(work, (0.5, 0.02), SEQUENCE_TOKENS, seed=3)]
    train(model, data, text_loss(model), work / "target", peak=2.6e-3)
    print("held-out bits per byte", bits_per_byte(model, work), flush=True)


def distilled_loss(model: LlamaForCausalLM, work: Path) -> Callable[[torch.Tensor], torch.Tensor]:
    """Cross-entropy on the text and KL to the target's distribution."""
    target = LlamaForCausalLM.from_pretrained(work / "target").bfloat16().eval()

    def loss_of(chunk: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            wanted = target(chunk[:, :-1]).logits.flatten(0, 1).float().log_softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(chunk[:, :-1]).logits
        got = logits.flatten(0, 1).float().log_softmax(-1)
        text = torch.nn.functional.nll_loss(got, chunk[:, 1:].flatten())
        return 0.3 * text + 0.7 * torch.nn.functional.kl_div(got, wanted, reduction="batchmean", log_target=True)

    return loss_of


def train_draft(work: Path) -> None:
    model = new_model(DRAFT, work)
    print("parameters", sum(p.numel() for p in model.parameters()), flush=True)
    train(model, list(batches(work, (1.2, 0.1), SHORT_TOKENS, seed=2)), distilled_loss(model, work), work / "draft", peak=6e-3)


def anneal_draft(work: Path) -> None:
    """Full-length windows, as the target has seen."""
    model = LlamaForCausalLM.from_pretrained(work / "draft")
    data = list(batches(work, (0.25, 0.0), SEQUENCE_TOKENS, seed=5))
    train(model, data, distilled_loss(model, work), work / "draft", peak=2.5e-3)
    print("held-out bits per byte", bits_per_byte(model, work), flush=True)


def publish(work: Path) -> None:
    """Write both models as bf16 safetensors folders that share one tokenizer."""
    for name in ("target", "draft"):
        folder = ZOO / name
        shutil.rmtree(folder, ignore_errors=True)
        model = LlamaForCausalLM.from_pretrained(work / name).to(torch.bfloat16)
        model.save_pretrained(folder)
        PreTrainedTokenizerFast.from_pretrained(work / "tokenizer").save_pretrained(folder)
        print(name, "bits per byte in bf16", bits_per_byte(model, work), flush=True)
    shutil.copy(work / "heldout.txt", ZOO / "heldout.txt")
    shutil.copy(work / "heldout.json", ZOO / "heldout.json")


STAGES = {
    "corpus": build_corpus,
    "target": train_target,
    "anneal": anneal_target,
    "draft": train_draft,
    "anneal-draft": anneal_draft,
    "publish": publish,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    STAGES[options.stage](options.work)
