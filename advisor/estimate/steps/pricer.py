"""Seconds of one step of a deployment on a machine. Prices are cached, as a search asks for the same steps many times."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise

from advisor.backends.deployment import Attention, Deployment, KvCache, Weights
from advisor.estimate.machines.machine import Machine, Roofline, Shares, price
from advisor.estimate.memory.ledger import device_weight_bytes
from advisor.estimate.operators.build import PricingModel, mixing_operators, step_operators, token_operators
from advisor.estimate.operators.structure import structure_of
from advisor.estimate.operators.types import Phase, StepPart
from advisor.profiles.evidence import expected_tokens


@dataclass(frozen=True, slots=True)
class SharedPrices:
    """Prices on one machine that deployments share: those of tokens by weights, those of mixing by attention and cache."""

    tokens: dict[object, dict[tuple[int, int, bool], Shares]] = field(default_factory=dict)
    mixing: dict[object, dict[tuple[StepPart, bool], Shares]] = field(default_factory=dict)
    pricing_models: dict[object, PricingModel] = field(default_factory=dict)


def cost_equivalent_cache(kv: KvCache) -> KvCache:
    """The cache without what the time of a step does not depend on: the size of its blocks, and whether prefixes are reused."""
    return replace(kv, block_tokens=0, prefix_reuse=False)


class StepPricer:
    """Prices steps of one deployment. Lengths are rounded to 1/16 octave, so that similar steps share a price."""

    def __init__(self, deployment: Deployment, machine: Machine, shared: SharedPrices | None = None) -> None:
        self.deployment = deployment
        self.machine = machine
        shared = shared or SharedPrices()
        model, parallel = deployment.model, deployment.parallel
        self.token_prices = shared.tokens.setdefault((model, deployment.weights, parallel), {})
        attention = (model, deployment.attention, cost_equivalent_cache(deployment.kv), parallel, deployment.dtype)
        self.mixing_prices = shared.mixing.setdefault(attention, {})
        key = (attention, deployment.weights)
        if key not in shared.pricing_models:
            shared.pricing_models[key] = PricingModel.of(deployment, joins=machine.overheads.joins)
        self._pricing_model = shared.pricing_models[key]
        self._working_set = device_weight_bytes(deployment)
        self._structure = structure_of(deployment.model)
        self.host_launch_s = len(model.layers) * machine.overheads.host_layer_s
        """Seconds in which the host launches a step; the device waits where its work takes less."""
        self._steps: dict[tuple[StepPart, ...], Shares] = {}
        self._decode_s: dict[tuple[int, float], float] = {}
        draft = deployment.decoding.draft_model
        self.draft = StepPricer(_draft_deployment(deployment), machine, shared) if draft is not None else None

    @property
    def tokens_per_decode(self) -> float:
        """Expected output tokens of one sequence in a decoding step: 1, or more with accepted draft tokens."""
        decoding = self.deployment.decoding
        return expected_tokens(decoding.acceptance, decoding.draft_tokens) if decoding.draft_tokens else 1.0

    def shares(self, parts: tuple[StepPart, ...]) -> Shares:
        """Seconds of one step by kind of work."""
        key = tuple([rounded(part) for part in parts])
        shares = self._steps.get(key)
        if shares is None:
            shares = self._steps[key] = self._price(key)
        return shares

    def step_s(self, parts: tuple[StepPart, ...]) -> float:
        """Seconds of one step."""
        return self.shares(parts).total_s

    def roofline(self, parts: tuple[StepPart, ...]) -> Roofline | None:
        """The least seconds of a step's operators by the device's data sheet, a draft model's left out; `None` for a measured machine."""
        return self.machine.roofline(step_operators(self._pricing_model, parts))

    def prefill_s(self, tokens: int, kv_tokens: int, sampled: bool = True) -> float:
        """Seconds of a step that prefills `tokens` of one prompt, after which the cache holds `kv_tokens`; a draft's prefill included."""
        own = self.step_s((StepPart(Phase.PREFILL, 1, tokens, kv_tokens, sampled),))
        return own + (self.draft.prefill_s(tokens, kv_tokens, False) if self.draft else 0.0)

    def prompt_s(self, prompt: int, budget: int) -> float:
        """Seconds to prefill one prompt in steps of at most `budget` tokens; a draft's prefill included."""
        return sum(self.prefill_s(part.q_tokens, part.kv_tokens, part.sampled) for part in prefill_steps(prompt, 1, budget))

    def prefill_rate(self, prompt: int, sequences: int, budget: int) -> float:
        """Prompt tokens per second while `sequences` prompts are prefilled in steps of at most `budget` tokens."""
        steps, stages = prefill_steps(prompt, sequences, budget), self.deployment.parallel.pipeline
        seconds = sum(self.step_s((part,)) for part in steps)
        # Chunks overlap in the stages of a pipeline: of n chunks over p stages, n in every n + p - 1 stage times.
        return sum(part.rows for part in steps) / seconds * len(steps) * stages / (len(steps) + stages - 1)

    def chunk_part(self, tokens: int, kv_tokens: int, sampled: bool) -> StepPart:
        """The part of a step that prefills `tokens` of one prompt, rounded to the grid of prices."""
        return rounded(StepPart(Phase.PREFILL, 1, tokens, kv_tokens, sampled))

    def decode_part(self, sequences: int, context: float) -> StepPart:
        """The part of a step in which `sequences` decode at a mean of `context` tokens; draft tokens are verified with them."""
        positions = self.deployment.decoding.draft_tokens + 1
        return StepPart(Phase.DECODE, sequences, positions, max(int(context), 1) + positions - 1)

    def decode_s(self, sequences: int, context: float) -> float:
        """Seconds of a decoding step of `sequences` with a mean of `context` tokens, drafting included."""
        key = (sequences, context)
        seconds = self._decode_s.get(key)
        if seconds is None:
            seconds = self._decode_s[key] = self.step_s((self.decode_part(sequences, context),)) + self.draft_s(sequences, context)
        return seconds

    def draft_s(self, sequences: int, context: float) -> float:
        """Seconds in which a draft model proposes its tokens; 0 without one."""
        if self.draft is None:
            return 0.0
        return self.deployment.decoding.draft_tokens * self.draft.decode_s(sequences, context)

    def _price(self, parts: tuple[StepPart, ...]) -> Shares:
        prefills = any(part.phase == Phase.PREFILL for part in parts)
        rows = sequences = logit_rows = 0
        attention_s = other_s = 0.0
        for part in parts:
            rows, sequences, logit_rows = rows + part.rows, sequences + part.sequences, logit_rows + part.logit_rows
            mixed = self.mixing_shares(part, prefills)
            attention_s, other_s = attention_s + mixed.attention_s, other_s + mixed.other_s
        tokens = self.token_shares(rows, logit_rows, prefills)
        device_s = tokens.products_s + attention_s + tokens.other_s + other_s + tokens.collectives_s
        overhead = self.fixed_s(rows, sequences, prefills) + max(self.host_launch_s - device_s, 0.0)
        return Shares(tokens.products_s, attention_s, tokens.other_s + other_s, tokens.collectives_s, overhead)

    def fixed_s(self, rows: int, sequences: int, prefills: bool) -> float:
        """Seconds of a step outside operators: the engine's scheduling, launches and sampling, by its `Overheads`."""
        overheads, model = self.machine.overheads, self.deployment.model
        layer_s = overheads.layer_s + overheads.element_s * rows * model.hidden_size
        fixed = overheads.step_s + overheads.sequence_s * sequences + overheads.expert_layer_s * self._structure.expert_layers
        if prefills:
            fixed += overheads.prefill_step_s + overheads.prefill_recurrent_layer_s * self._structure.recurrent_layers
            layer_s += overheads.prefill_layer_s
        return fixed + len(model.layers) * layer_s + overheads.hop_s * (self.deployment.parallel.pipeline - 1)

    def token_shares(self, rows: int, logit_rows: int, prefills: bool) -> Shares:
        """Seconds of `token_operators`, cached. `prefills` says whether the step has prompt tokens."""
        key = (rows, logit_rows, prefills)
        shares = self.token_prices.get(key)
        if shares is None:
            operators = token_operators(self._pricing_model, rows, logit_rows)
            shares = self.token_prices[key] = price(self.machine, operators, self._working_set, prefills)
        return shares

    def mixing_shares(self, part: StepPart, prefills: bool) -> Shares:
        """Seconds of `mixing_operators` of one part, cached; the part must be rounded to the grid of prices."""
        shares = self.mixing_prices.get((part, prefills))
        if shares is None:
            operators = mixing_operators(self._pricing_model, part)
            shares = self.mixing_prices[(part, prefills)] = price(self.machine, operators, self._working_set, prefills)
        return shares


def _draft_deployment(deployment: Deployment) -> Deployment:
    """The draft model as a deployment on one device: with the cache of the target model, but no window."""
    draft = deployment.decoding.draft_model
    assert draft is not None
    own = Deployment(
        model=draft,
        weights=Weights(draft.weight_format),
        attention=Attention(deployment.attention.backend),
        kv=replace(deployment.kv, window=None, sink_tokens=0),
        engine=deployment.engine,
    )
    return own.in_dtype(deployment.weights.dtype) if deployment.weights.dtype else own


def prefill_steps(prompt: int, sequences: int, budget: int) -> list[StepPart]:
    """The steps that prefill one prompt in chunks of the budget, or all of `sequences` prompts where one step holds them."""
    if sequences > 1 and prompt * sequences <= budget:
        return [StepPart(Phase.PREFILL, sequences, prompt, prompt)]
    return [StepPart(Phase.PREFILL, 1, end - start, end, end == prompt) for start, end in pairwise((*range(0, prompt, budget), prompt))]


def rounded(part: StepPart) -> StepPart:
    """Round lengths and batch sizes to a grid of 1/16 octave (at most 3.1 % off), so that growing sequences share prices."""
    q_tokens = _on_grid(part.q_tokens) if part.phase == Phase.PREFILL else part.q_tokens
    sequences, kv_tokens = _on_grid(part.sequences), max(_on_grid(part.kv_tokens), q_tokens)
    if (q_tokens, sequences, kv_tokens) == (part.q_tokens, part.sequences, part.kv_tokens):
        return part
    return StepPart(part.phase, sequences, q_tokens, kv_tokens, part.sampled)


@lru_cache(maxsize=65536)
def _on_grid(tokens: int) -> int:
    if tokens <= 32:
        return tokens
    grain = 1 << max(tokens.bit_length() - 5, 0)
    return round(tokens / grain) * grain
