"""`advisor plan`: find the best way to run a model under limits, show it with its reasons, and save it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import click

from advisor.cli.limit_options import with_limits
from advisor.cli.load_options import with_load
from advisor.cli.options import Output, with_output
from advisor.cli.profile_choice import ModelAndProfile, read_model_and_profile
from advisor.cli.values import QuantityType
from advisor.profiles.choices import Prefer, UseCase
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.technique_name import technique_in
from advisor.quantities.limits import LIMITS
from advisor.quantities.parsing import COUNT, TOKENS, WATTS

if TYPE_CHECKING:  # the planner is loaded when the command runs
    from advisor.planfile.file import PlanFile
    from advisor.planning.advice import Advice, Relaxation
    from advisor.planning.question import PlanQuestion


@click.command("plan", short_help="Find the best way to run MODEL under the given limits.")
@click.argument("model", required=False)
@click.option("-m", "--model", "model_option", metavar="MODEL", help="The same as MODEL.")
@click.option("--hardware", metavar="NAME", help="A device such as `4090`, or FILE.yaml with a data sheet; default: this machine.")
@click.option("--devices", type=QuantityType(COUNT), default=1, show_default=True, help="Number of devices.")
@click.option("--power-limit", type=QuantityType(WATTS), metavar="WATTS", help="Power limit of each device, priced by published sweeps.")
@click.option(
    "--profile", "-P", is_flag=False, flag_value="now", default="auto", show_default=True, metavar="[NAME]",
    help="Plan from measurements: alone, measure this machine first; =NAME or =FILE, that profile; =none, the data sheet.",
)  # fmt: skip
@with_limits()
@click.option("--context", type=QuantityType(TOKENS), help="Longest sequence, output included; 8k is 8192.")
@with_load
@click.option(
    "--use-case", type=click.Choice([use_case.value for use_case in UseCase]), default=UseCase.UNKNOWN.value,
    metavar="CASE", help="What requests ask for: chat, code, summaries, retrieval, extraction or unknown, the default. It decides how many "
    "draft tokens are accepted.",
)  # fmt: skip
@click.option(
    "--kv-pool", type=click.Choice(["load", "longest"]), default="load", show_default=True,
    help="Size a paged cache for the requests in flight, preempting where it overflows, or for as many of the longest.",
)  # fmt: skip
@click.option("--prefer", type=click.Choice([prefer.value for prefer in Prefer]), default=Prefer.BALANCED.value, show_default=True)
@click.option("--require", multiple=True, metavar="TECH[:OPTION=X,...]", help="Only plans with this technique; may be repeated.")
@click.option("--forbid", multiple=True, metavar="TECH", help="No plan with this technique; may be repeated.")
@click.option("--choose", metavar="ID", help="Choose the plan with this id of the table instead of the best one.")
@click.option("--offline", is_flag=True, help="Never look for the model on the network.")
@click.option("--text", "linear", is_flag=True, help="As plain sentences, for screen readers: no table, no drawing, no colour.")
@click.option("-o", "--output", "file", type=click.Path(path_type=Path), metavar="FILE", help="Save the plan; - prints it.")
@with_output
def command(
    output: Output,
    model: str | None,
    model_option: str | None,
    profile: str,
    file: Path | None,
    choose: str | None,
    linear: bool,
    **options: Any,
) -> ExitCode:
    """Find the best way to run MODEL under the given limits.

    MODEL is a folder, a config.json or an id. Exit code 3: no plan meets the limits; the nearest is shown and saved.
    """
    if model and model_option:
        raise AdvisorError(
            "usage",
            "the model is given twice",
            exit_code=ExitCode.USAGE,
            help=("advisor plan MODEL",),
            field="model",
            action=ErrorAction.DROP,
        )
    if linear and output.format != "text":
        raise _contradiction(f"--text and --format {output.format} exclude each other", "keep one of them", "format", ErrorAction.KEEP_ONE)
    choice = read_model_and_profile(model or model_option, profile)
    question = question_of(choice, options)
    from advisor.cli.progress import ProgressLines
    from advisor.planfile.from_advice import plan_of
    from advisor.service import plan as find_plan  # loads the planner: not needed for --help

    with ProgressLines(quiet=output.quiet) as progress:
        advice = find_plan(question, progress, choose=choose) if choose else find_plan(question, progress)
    return _answer(advice, plan_of(advice, profile_file=choice.profile_file), file, output, linear=linear)


def question_of(choice: ModelAndProfile, options: Mapping[str, Any]) -> "PlanQuestion":
    """The question of the command's options. Raises `AdvisorError` `usage` where options contradict each other."""
    _check(options)
    # Imported here because it loads the planner.
    from advisor.planning.question import PlanQuestion

    return PlanQuestion(
        model=choice.model,
        hardware=options["hardware"],
        devices=options["devices"],
        power_limit_w=options["power_limit"],
        profile=choice.profile,
        limits=options["limits"],
        context_tokens=options["context"],
        prompt_tokens=options["prompt_tokens"],
        output_tokens=options["output_tokens"],
        shared_prefix_tokens=options["shared_prefix"],
        concurrency=options["concurrency"],
        request_rate_per_s=options["request_rate"],
        burst=options["burst"],
        trace=options["trace"],
        prefer=options["prefer"],
        require=options["require"],
        forbid=options["forbid"],
        offline=options["offline"],
        use_case=options["use_case"],
        kv_pool=options["kv_pool"],
    )


def _check(options: Mapping[str, Any]) -> None:
    """Raise `AdvisorError` `usage` where options contradict each other."""
    context, answer = options["context"], options["output_tokens"]
    if context and answer and answer >= context:
        raise _contradiction(
            f"--output-tokens {answer} leaves no tokens for a prompt in --context {context}",
            f"write --context {answer * 2} or fewer output tokens",
            "output_tokens",
            ErrorAction.LOWER,
        )
    if both := sorted(set(map(technique_in, options["require"])) & set(options["forbid"])):
        raise _contradiction(
            f"`{both[0]}` is both required and forbidden", f"drop --require {both[0]} or --forbid {both[0]}", "require", ErrorAction.DROP
        )


def _contradiction(message: str, help: str, field: str, action: ErrorAction) -> AdvisorError:
    return AdvisorError("usage", message, exit_code=ExitCode.USAGE, help=(help,), field=field, action=action)


def _answer(advice: "Advice", plan: "PlanFile", file: Path | None, output: Output, *, linear: bool) -> ExitCode:
    """Print the advice and save the plan, even if the reader of stdout has closed it. Raises `no-plan` where nothing fits.

    With the file `-`, stdout gets the plan file and nothing else.
    """
    from advisor.planfile.from_advice import with_plan_ids
    from advisor.planfile.store import save_plan
    from advisor.planfile.yaml import plan_record, to_yaml
    from advisor.planning.advice import Status

    shown = with_plan_ids(advice, plan)
    to_stdout = file == Path("-")
    try:
        if output.format == "yaml" or (to_stdout and output.format == "text"):
            click.echo(to_yaml(plan), nl=False)
        else:
            output.emit(lambda: plan_record(plan), lambda: _advice_text(shown, output, linear=linear))
    finally:
        if file is not None and not to_stdout:
            output.note(f"saved {file}" if save_plan(plan, file) else f"{file} already has this content; not written again")
    if advice.chosen.status is Status.INFEASIBLE:
        raise no_plan(advice)
    return ExitCode.OK


def _advice_text(advice: "Advice", output: Output, *, linear: bool) -> str:
    """The advice as tables or as sentences."""
    if linear:
        from advisor.rendering.text.linear import linear_text

        return linear_text(advice, ascii=output.ascii)
    from advisor.rendering.text.advice import advice_text

    return advice_text(advice, **output.look)


_REQUEST_FLAGS = {"context_tokens": "--context", "devices": "--devices", "concurrency": "--concurrency"}
"""Flags of the request that are whole numbers rather than limits."""


def no_plan(advice: "Advice") -> AdvisorError:
    """The error for a question without a plan: the binding limit, and the smallest change of each limit that admits a plan."""
    from advisor.planfile.summary import violation_text

    nearest = " + ".join(advice.chosen.names) or "the unmodified model"
    notes = [f"the nearest plan is {nearest}"]
    if advice.binding:
        notes.append(f"the binding limit is {violation_text(advice.binding)}")
    notes += [f"it also misses {violation_text(violation)}" for violation in advice.chosen.violations if violation != advice.binding]
    return AdvisorError(
        "no-plan",
        f"no plan {'meets all limits' if advice.request.limits.any_stated else 'fits in memory'} ({advice.considered} tried)",
        exit_code=ExitCode.NO_PLAN,
        notes=tuple(notes),
        help=tuple(_relaxation_help(item, advice) for item in advice.relaxations)
        or ("advisor hardware   lists machines with more memory",),
        **_change_of_binding(advice),
    )


class _Correction(TypedDict):
    field: str | None
    action: ErrorAction | None
    value: float | None


def _change_of_binding(advice: "Advice") -> _Correction:
    """The question's field that sets the binding limit, and the change of it that admits a plan; to drop it where none is known."""
    from advisor.planfile.summary import round_enough

    if advice.binding is None:
        return {"field": None, "action": None, "value": None}
    field = advice.binding.limit
    for change in advice.relaxations:
        if change.limit == advice.binding.limit:
            action = ErrorAction.RAISE if change.needed > change.bound else ErrorAction.LOWER
            return {"field": field, "action": action, "value": round_enough(change.limit, change.needed)}
    return {"field": field, "action": ErrorAction.DROP, "value": None}


def _relaxation_help(item: "Relaxation", advice: "Advice") -> str:
    """The flag to change for one relaxation; for memory beyond the device, a larger device."""
    from advisor.planfile.summary import round_enough
    from advisor.quantities.formatting import number

    stack = " + ".join(item.candidate.names) or "the unmodified model"
    if item.limit in _REQUEST_FLAGS:
        return f"write {_REQUEST_FLAGS[item.limit]} {item.needed:.0f} instead of {item.bound:.0f} (with {stack})"
    needed, bound = number(round_enough(item.limit, item.needed), trim=True), number(item.bound, trim=True)
    if not advice.request.limits.states(item.limit, item.bound):
        device = f"use a device with {needed} GiB of usable memory instead of {bound} GiB (with {stack})"
        return f"{device}; advisor hardware   lists devices"
    return f"allow {LIMITS[item.limit].flag} {needed} instead of {bound} (with {stack})"
