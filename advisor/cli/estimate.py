"""`advisor estimate`: price one explicit way to run a model."""

from typing import TYPE_CHECKING, Any

import click

from advisor.cli.limit_options import with_limits
from advisor.cli.load_options import LENGTHS, with_load
from advisor.cli.options import Output, with_output
from advisor.cli.values import QuantityType
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.quantities.parsing import COUNT

if TYPE_CHECKING:  # the estimator is loaded when the command runs
    from advisor.planning.question import EstimateQuestion


@click.command("estimate", short_help="Price one explicit way to run MODEL.")
@click.argument("model")
@click.option("--hardware", metavar="ID", required=True, help="An id of `advisor hardware`.")
@click.option("--devices", type=QuantityType(COUNT), default=1, show_default=True, help="How many of them.")
@click.option("--engine", metavar="E", default="advisor", show_default=True, help="What runs it: advisor, vllm, llama.cpp, ...")
@click.option("--weights", metavar="F", help="Weight format, such as fp8 or int4-g128; without it, the model's own.")
@click.option("--kv", metavar="D", help="KV cache format: bf16, fp8, int8 or int4.")
@click.option("--tp", type=QuantityType(COUNT), default=1, show_default=True, help="Tensor parallel ways.")
@click.option("--pp", type=QuantityType(COUNT), default=1, show_default=True, help="Pipeline parallel stages.")
@with_load
@click.option("--offline", "offline_load", is_flag=True, help="All requests are there at the start; as many run as fit.")
@with_limits(lambda limit: limit.in_goodput, note="; counts in the goodput")
@click.option("--profile", "-P", default="auto", show_default=True, metavar="NAME", help="Stored profile; `none` for the data sheet.")
@with_output
def command(output: Output, **asked: Any) -> ExitCode:
    """Price one explicit way to run MODEL: no search. Without a load, one request at a time."""
    missing = {name: flag for name, flag in LENGTHS.items() if not asked[name]}
    if missing and asked["trace"] is None:
        raise AdvisorError(
            "usage",
            f"missing {' and '.join(missing.values())}",
            exit_code=ExitCode.USAGE,
            help=("or --load-trace FILE, which has them",),
            field=next(iter(missing)),
            action=ErrorAction.GIVE,
        )
    question = _question(asked)
    from advisor.cli.progress import ProgressLines
    from advisor.rendering.text.metrics import extrapolation_lines, limit_probabilities, metrics_text
    from advisor.service import estimate

    with ProgressLines(quiet=output.quiet) as progress:
        priced = estimate(question, progress)
    output.emit(
        lambda: {
            "model": question.model,
            "hardware": question.hardware,
            "metrics": priced.metrics.as_dict(),
            "chances": limit_probabilities(priced.metrics, question.all_limits),
            "outside": priced.extrapolation_warning,
            "notes": list(priced.warnings),
        },
        lambda: "\n".join(
            (
                metrics_text(priced.metrics, question.all_limits, **output.look),
                *extrapolation_lines(priced.extrapolation_warning, **output.look),
            )
        ),
    )
    return ExitCode.OK


def _question(asked: dict[str, Any]) -> "EstimateQuestion":
    from advisor.planning.question import EstimateQuestion  # loads the estimator: not needed for --help

    return EstimateQuestion(
        model=asked["model"],
        hardware=asked["hardware"],
        devices=max(asked["devices"], asked["tp"] * asked["pp"]),
        engine=asked["engine"],
        weights=asked["weights"],
        kv=asked["kv"],
        tp=asked["tp"],
        pp=asked["pp"],
        prompt_tokens=asked["prompt_tokens"],
        output_tokens=asked["output_tokens"],
        shared_prefix_tokens=asked["shared_prefix"],
        concurrency=asked["concurrency"],
        request_rate_per_s=asked["request_rate"],
        burst=asked["burst"],
        trace=asked["trace"],
        offline_load=asked["offline_load"],
        limits=asked["limits"],
        profile=asked["profile"],
    )
