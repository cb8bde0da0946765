"""Draw a token from each row of logits without sorting the vocabulary: temperature, top-k, top-p, min-p, then a Gumbel race.

Letters: R rows, V tokens of the vocabulary. Scores are logits over temperature; the mass of a score is exp(score − the row's highest).
A row's survivors are the scores from one threshold on. It is found by counting and weighing the scores above 16 thresholds at a time,
until at most HELD scores remain, which one program holds.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.sampling.sampling_torch import HELD, LANES, check, sample_on_cpu, sample_reference

_WARPS = 16
_MANTISSA = tl.constexpr(0x7FFFFFFF)


@triton.jit
def _score(logits, column, temperature, VOCAB: tl.constexpr):
    """Divided as torch divides, so that ties are the same."""
    value = tl.load(logits + column, mask=column < VOCAB, other=float("-inf")).to(tl.float32)
    return tl.div_rn(value, temperature + tl.zeros_like(value))


@triton.jit
def _key(value):
    """An integer in the order of the float32; `_value` is the inverse."""
    bits = value.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & _MANTISSA)


@triton.jit
def _value(key):
    return (key ^ ((key >> 31) & _MANTISSA)).to(tl.float32, bitcast=True)


@triton.jit
def _gumbel(bits):
    """Gumbel noise of 31 random bits: −log of an exponential, whose small values, the winners, are the finely resolved ones."""
    uniform = ((bits >> 1).to(tl.int32, bitcast=True).to(tl.float32) + 0.5) * 4.656612873077393e-10
    exponential = tl.where(uniform < 1e-3, uniform + 0.5 * uniform * uniform, -tl.log(1.0 - uniform))
    return -tl.log(exponential)


@triton.jit
def _win(best, at, race, column):
    ahead = race > best
    return tl.where(ahead, race, best), tl.where(ahead, column, at)


@triton.jit
def _winner(best, at):
    """The lowest place of the highest value."""
    return tl.min(tl.where(best == tl.max(best, 0), at, _MANTISSA), 0)


@triton.jit
def _highest(logits, temperature, VOCAB: tl.constexpr, TILE: tl.constexpr):
    """The row's highest score and its place."""
    lane = tl.arange(0, TILE)
    best, at = tl.full((TILE,), float("-inf"), tl.float32), lane
    for begin in range(0, VOCAB, TILE):
        best, at = _win(best, at, _score(logits, begin + lane, temperature, VOCAB), begin + lane)
    return tl.max(best, 0), _winner(best, at)


@triton.jit
def _race(logits, temperature, threshold, seed, stream, step_low, step_high, VOCAB: tl.constexpr, LANES: tl.constexpr):
    """The place whose score plus noise is highest among the scores from `threshold` on."""
    lane = tl.arange(0, LANES)
    best, at = tl.full((LANES,), float("-inf"), tl.float32), lane
    for begin in range(0, VOCAB, 4 * LANES):
        noise = tl.philox(seed, begin // 4 + lane, stream, step_low, step_high)
        for part in tl.static_range(4):
            column = begin + part * LANES + lane
            score = _score(logits, column, temperature, VOCAB)
            best, at = _win(best, at, tl.where(score >= threshold, score + _gumbel(noise[part]), float("-inf")), column)
    return _winner(best, at)


@triton.jit
def _search(
    logits, temperature, highest, base, target,
    BY_COUNT: tl.constexpr, VOCAB: tl.constexpr, HELD: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Lower the threshold until enough is above it: `target` scores, or the share `target` of the mass from `base` on.

    Returns the threshold, the number of scores above it and the mass from `base` on. The threshold is the exact one (the lowest
    score that is needed) where more than HELD scores are above it, and may be lower where not.
    """
    lane, j = tl.arange(0, TILE), tl.arange(0, 16)
    low, high = _key(base).to(tl.int64), _key(highest).to(tl.int64) + 1
    threshold, count, mass = base, tl.full((), VOCAB, tl.int32), tl.full((), 0.0, tl.float32)
    step = tl.full((), 0, tl.int32)
    while (count > HELD) & (high - low > 1):
        keys = high - (high - low) * (j + 1) // 16
        # first by distance below the highest, 0.25 to 73, growing by half; the last is `base`
        far = highest - 0.25 * tl.exp2(0.58496 * j.to(tl.float32))
        far = tl.where(j == 15, base, tl.maximum(far, base))
        edges = tl.where(step == 0, far, _value(keys.to(tl.int32)))
        counts, masses = tl.zeros((TILE, 16), tl.int32), tl.zeros((TILE, 16), tl.float32)
        for begin in range(0, VOCAB, TILE):
            score = _score(logits, begin + lane, temperature, VOCAB)
            above = (score[:, None] >= edges[None, :]) & (begin + lane < VOCAB)[:, None]
            counts += above.to(tl.int32)
            masses += tl.where(above, tl.exp(score - highest)[:, None], 0.0)
        total, weight = tl.sum(counts, 0), tl.sum(masses, 0)
        mass = tl.where(step == 0, tl.sum(tl.where(j == 15, weight, 0.0), 0), mass)
        enough = total.to(tl.float32) >= target if BY_COUNT else weight >= target * mass
        enough = enough | (j == 15)
        first = tl.min(tl.where(enough, j, 15), 0)
        threshold = tl.sum(tl.where(j == first, edges, 0.0), 0)
        count = tl.sum(tl.where(j == first, total, 0), 0)
        # an edge that was not enough bounds the next ones from above
        before = tl.min(tl.where(j < first, _key(edges).to(tl.int64), high), 0)
        low, high = _key(threshold).to(tl.int64), before
        step += 1
    return threshold, count, mass


@triton.jit
def _gather(logits, temperature, threshold, values, places, VOCAB: tl.constexpr, TILE: tl.constexpr):
    """Write the scores from `threshold` on, and their places, side by side."""
    lane = tl.arange(0, TILE)
    filled = tl.full((), 0, tl.int32)
    for begin in range(0, VOCAB, TILE):
        column = begin + lane
        score = _score(logits, column, temperature, VOCAB)
        kept = (score >= threshold) & (column < VOCAB)
        number = tl.sum(kept.to(tl.int32), 0)
        if number > 0:
            to = filled + tl.cumsum(kept.to(tl.int32), 0) - 1
            tl.store(values + to, score, mask=kept)
            tl.store(places + to, column, mask=kept)
            filled += number
    return filled


@triton.jit
def _settle(score, highest, base, top_k, top_p, mass, HELD: tl.constexpr):
    """The threshold among the HELD scores that remain: by rank, then by the mass before each, ties kept together."""
    ordered, rank = tl.sort(score, descending=True), tl.arange(0, HELD)
    if top_k > 0:
        base = tl.maximum(base, tl.max(tl.where(rank == top_k - 1, ordered, float("-inf")), 0))
    weight = tl.where(ordered >= base, tl.exp(ordered - highest), 0.0)
    mass = tl.where(mass > 0.0, mass, tl.sum(weight, 0))
    # the first is kept whatever is asked
    before = tl.where(rank == 0, float("-inf"), tl.cumsum(weight, 0) - weight)
    kept = tl.where(before < tl.where(top_p >= 1.0, float("inf"), top_p * mass), ordered, float("inf"))
    return tl.min(tl.where(ordered >= base, kept, float("inf")), 0)


@triton.jit
def _sample(
    logits, temperatures, top_ks, top_ps, min_ps, seeds, offsets, tokens, thresholds, values, places, logits_row,
    VOCAB: tl.constexpr, HELD: tl.constexpr, LANES: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    logits += row.to(tl.int64) * logits_row
    temperature, top_k = tl.load(temperatures + row), tl.load(top_ks + row)
    top_p, min_p = tl.load(top_ps + row), tl.load(min_ps + row)
    greedy = temperature <= 0.0
    temperature = tl.where(greedy, 1.0, temperature)
    everything = tl.full((), float("-inf"), tl.float32)
    top_k = tl.where((top_k >= VOCAB) | (top_k <= 0), 0, top_k)
    highest, threshold = tl.zeros_like(everything), everything
    token = tl.full((), 0, tl.int32)
    if greedy | (top_k > 0) | (top_p < 1.0) | (min_p > 0.0):
        highest, token = _highest(logits, temperature, VOCAB, 2 * LANES)
        threshold = highest
    if greedy == 0:
        step = tl.load(offsets + row * OWN)
        draw, stream, low, high = tl.load(seeds + row * OWN), row * (1 - OWN), step.to(tl.int32), (step >> 32).to(tl.int32)
        base = tl.where(min_p > 0.0, highest + tl.log(tl.maximum(min_p, 1e-30)), everything)
        count, mass, lowest = tl.full((), VOCAB + HELD, tl.int32), tl.zeros_like(everything), base
        if top_k > 0:
            lowest, count, _ = _search(logits, temperature, highest, everything, top_k.to(tl.float32), True, VOCAB, HELD, LANES // 2)
            if count > HELD:
                base = tl.maximum(base, lowest)
                lowest = base
                top_k = 0
        if (count > HELD) & (top_p < 1.0):
            lowest, count, mass = _search(logits, temperature, highest, base, top_p, False, VOCAB, HELD, LANES // 2)
        if count <= HELD:
            held = tl.arange(0, HELD)
            filled = _gather(logits, temperature, lowest, values + row * HELD, places + row * HELD, VOCAB, 2 * LANES)
            tl.debug_barrier()
            score = tl.load(values + row * HELD + held, mask=held < filled, other=float("-inf"))
            threshold = _settle(score, highest, base, top_k, top_p, mass, HELD)
            place = tl.load(places + row * HELD + held, mask=held < filled, other=0)
            n0, n1, n2, n3 = tl.philox(draw, place // (4 * LANES) * LANES + place % LANES, stream, low, high)
            part = place // LANES % 4
            noise = tl.where(part == 0, n0, tl.where(part == 1, n1, tl.where(part == 2, n2, n3)))
            race = tl.where((score >= threshold) & (held < filled), score + _gumbel(noise), float("-inf"))
            token = _winner(race, place)
        else:
            threshold = lowest
            token = _race(logits, temperature, threshold, draw, stream, low, high, VOCAB, LANES)
    tl.store(tokens + row, token.to(tl.int64))
    tl.store(thresholds + row, threshold)


def sample(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor) -> Tensor:
    """One token for each row of `logits` [R, V]: int64 [R]; one launch on a GPU without a look at the values, plain torch on a CPU.

    `temperature`, `top_p`, `min_p` are float32 [R] and `top_k` int32 [R]; 0, 1, 0 and 0 turn them off, a temperature of 0 being greedy.
    `seed` and `offset` are int64, both [1] or both [R]: raise the offset on the device between draws, and a replayed graph draws anew.
    A row with its own seed and offset draws the same in any batch, at any row.
    Tokens of equal score at a threshold stay together. Raises `ValueError` for shapes, types or devices that do not go together.
    """
    check(logits, temperature, top_k, top_p, min_p, seed, offset)
    if logits.device.type == "cpu":
        return sample_on_cpu(logits, temperature, top_k, top_p, min_p, seed, offset)
    return launch_sample(logits, temperature, top_k, top_p, min_p, seed, offset)[0]


def launch_sample(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor, min_p: Tensor, seed: Tensor, offset: Tensor, *, held: int = HELD
) -> tuple[Tensor, Tensor]:
    """The Triton form, for a GPU or the interpreter: the tokens, and the lowest score of each row that could be drawn, float32 [R].

    `held`, a power of two, is how many scores a program holds at once: it changes the way there, not the result.
    """
    check(logits, temperature, top_k, top_p, min_p, seed, offset)
    logits = logits if logits.stride(1) == 1 else logits.contiguous()
    rows, vocabulary = logits.shape
    tokens, thresholds = logits.new_empty(rows, dtype=torch.int64), logits.new_empty(rows, dtype=torch.float32)
    values, places = logits.new_empty(rows, held, dtype=torch.float32), logits.new_empty(rows, held, dtype=torch.int32)
    if rows:
        _sample[(rows,)](
            logits, temperature, top_k, top_p, min_p, seed, offset, tokens, thresholds, values, places, logits.stride(0),
            VOCAB=vocabulary, HELD=held, LANES=LANES, OWN=int(offset.numel() > 1), num_warps=_WARPS,
        )  # fmt: skip
    return tokens, thresholds


def _inputs(rows: int, vocabulary: int, kind: int) -> tuple[Tensor, ...]:
    """Rows of all kinds in turn from `kind` on: greedy, plain, and each filter alone and with others."""
    kinds = ((0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 50, 1.0, 0.0), (1.3, 0, 0.9, 0.0), (0.8, 0, 1.0, 0.05), (0.6, 20, 0.8, 0.01))
    columns = [[kinds[(kind + row) % len(kinds)][at] for row in range(rows)] for at in range(4)]
    logits = (torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(rows * 31 + vocabulary)) * 3).bfloat16()
    temperature, top_p, min_p = (torch.tensor(columns[at], dtype=torch.float32) for at in (0, 2, 3))
    return logits, temperature, torch.tensor(columns[1], dtype=torch.int32), top_p, min_p, torch.tensor([7]), torch.tensor([3])


def _variant(vocabulary: int, element: str) -> Variant:
    pointers = {**dict.fromkeys(("temperatures", "top_ps", "min_ps", "thresholds", "values"), "*fp32"), "top_ks": "*i32", "places": "*i32"}
    return Variant(
        name=f"{vocabulary}-{element}",
        function=_sample,
        types={"logits": f"*{element}", **pointers, **dict.fromkeys(("seeds", "offsets", "tokens"), "*i64"), "logits_row": "i32"},
        constants={"VOCAB": vocabulary, "HELD": HELD, "LANES": LANES, "OWN": 1},
        warps=_WARPS,
        stages=3,
        # 512 threads share the 65,536 registers of a multiprocessor
        registers=128,
    )


def _launched(*arguments: Tensor) -> Tensor:
    return launch_sample(*arguments)[0] if arguments[0].is_cuda or INTERPRETED else sample_reference(*arguments)


KERNEL = Kernel(
    name="sampling",
    # tokens as numbers that can be compared
    reference=lambda *arguments: sample_reference(*arguments).double(),
    launch=_launched,
    inputs=_inputs,
    shapes=((2, 320, 0), (1, 320, 5), (1, 5003, 2), (1, 9001, 3), (1, 50257, 4), (1, 128256, 1), (1, 1, 5), (0, 320, 0)),
    # the same noise, so the same tokens
    tolerance=0.0,
    bytes=lambda rows, vocabulary, kind: 2 * rows * vocabulary + 8 * rows,
    flops=lambda rows, vocabulary, kind: 4 * rows * vocabulary,
    variants=(_variant(50257, "bf16"), _variant(128256, "bf16"), _variant(128256, "fp32"), _variant(151936, "bf16")),
)
