"""`advisor estimate`: predict the metrics of one explicit configuration of a model."""

from typing import TYPE_CHECKING, Any

import click

from advisor.cli.limit_options import with_limits
from advisor.cli.load_options import LENGTHS, with_load
from advisor.cli.options import Output, with_output
from advisor.cli.values import QuantityType
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.quantities.parsing import COUNT, WATTS

if TYPE_CHECKING:  # the estimator is loaded when the command runs
    from advisor.planning.question import EstimateQuestion


@click.command("estimate", short_help="Predict the metrics of one explicit configuration of MODEL.")
@click.argument("model")
@click.option("--hardware", metavar="NAME", required=True, help="A device such as `4090`, or FILE.yaml with a data sheet.")
@click.option("--devices", type=QuantityType(COUNT), help="Number of devices; default: --tp times --pp.")
@click.option("--power-limit", type=QuantityType(WATTS), metavar="WATTS", help="Power limit of each device, priced by published sweeps.")
@click.option("--engine", metavar="E", default="advisor", show_default=True, help="Serving engine: advisor, vllm, llama.cpp, ...")
@click.option("--weights", metavar="F", help="Weight format, such as fp8 or int4-g128; default: the model's own.")
@click.option("--kv", metavar="D", help="KV cache format: bf16, fp8, int8, int4, or an engine's name such as q8_0.")
@click.option(
    "--tp", type=QuantityType(COUNT), help="Tensor parallel size; default: the devices of one machine, as far as they divide the model."
)
@click.option("--pp", type=QuantityType(COUNT), default=1, show_default=True, help="Pipeline parallel size.")
@with_load
@click.option("--offline", "offline_load", is_flag=True, help="All requests are queued at the start; as many run at once as fit.")
@with_limits(lambda limit: limit.in_goodput, note="; counts in the goodput")
@click.option("--profile", "-P", default="auto", show_default=True, metavar="NAME", help="Stored profile; `none` for the data sheet.")
@with_output
def command(output: Output, **options: Any) -> ExitCode:
    """Predict the metrics of one explicit configuration of MODEL, without a search. Without a load, one request runs at a time."""
    _check_lengths(options)
    question = _question(options)
    from advisor.cli.progress import ProgressLines
    from advisor.rendering.text.metrics import assumption_lines, extrapolation_lines, limit_probabilities, metrics_text
    from advisor.service import estimate

    with ProgressLines(quiet=output.quiet) as progress:
        result = estimate(question, progress)
    output.emit(
        lambda: {
            "model": question.model,
            "hardware": question.hardware,
            "layout": result.layout,
            "metrics": result.metrics.as_dict(),
            "chances": limit_probabilities(result.metrics, question.all_limits),
            "kv_format": result.kv_format,
            "assumed": list(result.assumptions),
            "outside": result.extrapolation_warning,
            "notes": list(result.warnings),
        },
        lambda: "\n".join(
            (
                *([f"Layout: {result.layout}", ""] if question.devices > 1 else []),
                metrics_text(result.metrics, question.all_limits, **output.look),
                *assumption_lines(result.assumptions, **output.look),
                *extrapolation_lines(result.extrapolation_warning, **output.look),
            )
        ),
    )
    return ExitCode.OK


def _check_lengths(options: dict[str, Any]) -> None:
    """Raise `AdvisorError` `usage` where neither lengths nor a trace are given."""
    missing = {name: flag for name, flag in LENGTHS.items() if not options[name]}
    if missing and options["trace"] is None:
        raise AdvisorError(
            "usage",
            f"missing {' and '.join(missing.values())}",
            exit_code=ExitCode.USAGE,
            help=("or --load-trace FILE, which has them",),
            field=next(iter(missing)),
            action=ErrorAction.GIVE,
        )


def _question(options: dict[str, Any]) -> "EstimateQuestion":
    from advisor.planning.question import EstimateQuestion  # loads the estimator: not needed for --help

    return EstimateQuestion(
        model=options["model"],
        hardware=options["hardware"],
        power_limit_w=options["power_limit"],
        devices=options["devices"] or (options["tp"] or 1) * options["pp"],
        engine=options["engine"],
        weights=options["weights"],
        kv=options["kv"],
        tp=options["tp"],
        pp=options["pp"],
        prompt_tokens=options["prompt_tokens"],
        output_tokens=options["output_tokens"],
        shared_prefix_tokens=options["shared_prefix"],
        concurrency=options["concurrency"],
        request_rate_per_s=options["request_rate"],
        burst=options["burst"],
        trace=options["trace"],
        offline_load=options["offline_load"],
        limits=options["limits"],
        profile=options["profile"],
    )
