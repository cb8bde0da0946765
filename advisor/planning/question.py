"""The questions of a user, and the request and the workload that they describe."""

from dataclasses import dataclass

from advisor.backends.technique import Slot
from advisor.backends.technique_names import canonical_specs
from advisor.backends.techniques import by_name
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.request import UNLIMITED, Limits, Load, Prefer, Request, UseCase, Workload
from advisor.profiles.technique_name import technique_in
from advisor.profiles.trace import Trace

CHAT_PROMPT_TOKENS = 1024
CHAT_OUTPUT_TOKENS = 256
"""Default lengths: a turn of a chat with its history."""
DEFAULT_CONTEXT_TOKENS = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanQuestion:
    """The question of `advisor plan`. `None` means not limited or not given."""

    model: str
    hardware: str | None = None
    devices: int = 1
    profile: str = "auto"
    engine: str = "advisor"
    limits: Limits = UNLIMITED
    """Limits of the plan; the arrival rate need not be repeated here."""
    context_tokens: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    shared_prefix_tokens: int | None = None
    """Length of the prefix that all prompts share."""
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burst: int | None = None
    """Requests that arrive at once, with none after them."""
    trace: Trace | None = None
    """Recorded requests, with their arrival times and lengths."""
    prefer: str = "balanced"
    require: tuple[str, ...] = ()
    """Required techniques, as typed: `kv-window`, `kv-window:window=128`."""
    forbid: tuple[str, ...] = ()
    offline: bool = False
    use_case: str = UseCase.UNKNOWN
    """What the requests ask for, a value of `UseCase`."""
    power_limit_w: float | None = None
    """Power limit of each device, in watts; `None` for the data sheet's."""
    kv_pool: str = "load"
    """`load`: a paged cache has the size of the requests in flight at their mean lengths; `longest`: of as many of the longest."""

    @property
    def all_limits(self) -> Limits:
        """The limits, and the arrival rate as the least rate that must be sustained."""
        return _with_rate(self.limits, self.request_rate_per_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateQuestion:
    """The question of `advisor estimate`: one explicit deployment of a model."""

    model: str
    hardware: str
    power_limit_w: float | None = None
    """Power limit of each device, in watts; `None` for the data sheet's."""
    devices: int = 1
    engine: str = "advisor"
    weights: str | None = None
    kv: str | None = None
    tp: int | None = None
    """Tensor parallel size; `None` for the largest power of two that divides the devices of a stage and fits in one machine."""
    pp: int = 1
    prompt_tokens: int | None = None
    """Required, as are the output tokens, unless there is a trace."""
    output_tokens: int | None = None
    shared_prefix_tokens: int | None = None
    """Length of the prefix that all prompts share."""
    concurrency: int | None = None
    request_rate_per_s: float | None = None
    burst: int | None = None
    trace: Trace | None = None
    offline_load: bool = False
    limits: Limits = UNLIMITED
    """Bounds that served requests must meet to count in the goodput."""
    profile: str = "auto"

    @property
    def all_limits(self) -> Limits:
        """The limits, and the arrival rate as the least rate that must be sustained."""
        return _with_rate(self.limits, self.request_rate_per_s)


def _with_rate(limits: Limits, request_rate_per_s: float | None) -> Limits:
    return limits if request_rate_per_s is None else limits.model_copy(update={"request_rate_per_s": request_rate_per_s})


def request_for(question: PlanQuestion, model: ModelSpec) -> Request:
    """The request of a question, with the lengths of a chat where none are given.

    Raises `AdvisorError`: `usage` for options that contradict each other, `context-too-long`, and those of unknown techniques.
    """
    required = canonical_specs(question.require)
    _check_techniques(required, question.forbid)
    longest = _longest(question, model)
    prompt, output = _lengths(question, longest)
    workload = workload_of(
        prompt,
        output,
        concurrency=question.concurrency,
        request_rate_per_s=question.request_rate_per_s,
        burst=question.burst,
        trace=question.trace,
        shared_prefix_tokens=question.shared_prefix_tokens,
    )
    oversubscribed = question.kv_pool == "load" and longest > workload.context_tokens
    return Request(
        workload=workload.model_copy(
            update={"context_limit_tokens": longest, "oversubscribe": oversubscribed, "use_case": UseCase(question.use_case)}
        ),
        limits=question.all_limits,
        prefer=Prefer(question.prefer),
        devices=question.devices,
        require=required,
        forbid=question.forbid,
    )


def _longest(question: PlanQuestion, model: ModelSpec) -> int:
    """The longest sequence, output included: as given, else `DEFAULT_CONTEXT_TOKENS` or what the lengths need."""
    trace, needed = question.trace, (question.prompt_tokens or 0) + (question.output_tokens or 0)
    if trace is not None:
        needed = trace.longest_tokens
    longest = question.context_tokens or min(max(DEFAULT_CONTEXT_TOKENS, needed), model.max_context_tokens)
    if longest > model.max_context_tokens:
        raise AdvisorError(
            "context-too-long",
            f"{model.id} was made for {model.max_context_tokens} tokens, {longest} are asked for",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {model.max_context_tokens} or less",),
            field="context_tokens",
            action=ErrorAction.LOWER,
            value=model.max_context_tokens,
        )
    if trace is not None and trace.longest_tokens > longest:
        raise AdvisorError(
            "usage",
            f"the longest request of {trace.name} has {trace.longest_tokens} tokens, the context {longest}",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {trace.longest_tokens} or more",),
            field="context_tokens",
            action=ErrorAction.RAISE,
            value=trace.longest_tokens,
        )
    return longest


def _lengths(question: PlanQuestion, longest: int) -> tuple[int, int]:
    """Lengths of prompt and output. Raises `AdvisorError` `usage` where they exceed the longest sequence."""
    output = question.output_tokens or min(CHAT_OUTPUT_TOKENS, max(longest // 4, 1))
    prompt = question.prompt_tokens or min(CHAT_PROMPT_TOKENS, longest - output)
    if prompt < 1 or prompt + output > longest:
        raise AdvisorError(
            "usage",
            f"a prompt of {max(prompt, 0)} and an answer of {output} tokens do not fit in a context of {longest}",
            exit_code=ExitCode.USAGE,
            help=(f"write --context {max(prompt, 1) + output} or more",),
            field="context_tokens",
            action=ErrorAction.RAISE,
            value=max(prompt, 1) + output,
        )
    return prompt, output


def _check_techniques(required: tuple[str, ...], forbidden: tuple[str, ...]) -> None:
    """Raise `AdvisorError` for an unknown technique, and for two required ones of the same slot."""
    for name in forbidden:
        by_name(name, field="forbid")
    taken: dict[Slot, str] = {}
    for word in required:
        slot = by_name(technique_in(word)).slot
        if slot in taken:
            raise AdvisorError(
                "usage",
                f"`{taken[slot]}` and `{word}` are both required, and a plan holds one of them",
                exit_code=ExitCode.USAGE,
                help=(f"drop --require {taken[slot]} or --require {word}",),
                field="require",
                action=ErrorAction.DROP,
            )
        taken[slot] = word


def workload_of(
    prompt_tokens: int,
    output_tokens: int,
    *,
    concurrency: int | None = None,
    request_rate_per_s: float | None = None,
    burst: int | None = None,
    trace: Trace | None = None,
    offline: bool = False,
    shared_prefix_tokens: int | None = None,
) -> Workload:
    """The workload of a load; one request at a time where no load is given. A trace has its own lengths.

    Raises `AdvisorError` `usage` for a shared prefix that is longer than the prompts.
    """
    _check_prefix(shared_prefix_tokens, prompt_tokens if trace is None else trace.longest_prompt_tokens)
    if trace is not None:
        return Workload(
            prompt_tokens=trace.prompt_tokens,
            output_tokens=trace.output_tokens,
            load=Load.TRACE,
            trace=trace,
            context_limit_tokens=trace.longest_tokens,
            shared_prefix_tokens=shared_prefix_tokens,
        )
    load = Load.BURST if burst else Load.OFFLINE if offline else Load.OPEN if request_rate_per_s else Load.CLOSED
    return Workload(
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        load=load,
        concurrency=burst or concurrency or (1 if load is Load.CLOSED else None),
        request_rate_per_s=request_rate_per_s if load is Load.OPEN else None,
        shared_prefix_tokens=shared_prefix_tokens,
    )


def _check_prefix(shared: int | None, prompt: int) -> None:
    if shared is not None and shared > prompt:
        raise AdvisorError(
            "usage",
            f"prompts of {prompt} tokens cannot begin with {shared} that they share",
            exit_code=ExitCode.USAGE,
            help=(f"write --shared-prefix {prompt} or less, or longer --prompt-tokens",),
            field="shared_prefix_tokens",
            action=ErrorAction.LOWER,
            value=prompt,
        )
