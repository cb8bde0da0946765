"""`advisor quality`: the quality loss of attention and cache techniques on a local model, for every head."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode

if TYPE_CHECKING:  # loaded when the command runs
    from advisor.backends.processes.jobs import Chosen


@click.command("quality", short_help="Measure the quality loss of techniques, head by head.")
@click.argument("model")
@click.option("--with", "techniques", multiple=True, metavar="TECH[:OPTION=X,...]", help="A technique to measure; may be repeated.")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="Text to score; default: the shipped one.")
@click.option("--tokens", type=click.IntRange(min=32), default=4096, show_default=True, help="Number of tokens to score.")
@click.option("--heads", type=click.IntRange(min=1), default=10, show_default=True, help="Number of worst heads to show.")
@with_output
def command(output: Output, model: str, techniques: tuple[str, ...], text: Path | None, tokens: int, heads: int) -> ExitCode:
    """Score a text with MODEL, a folder with weights, unmodified and with each technique alone.

    Without --with, every KV cache format is measured. Reports for each technique the perplexity, the KL divergence and the top-1
    agreement with the unmodified model; and for every head of every layer, the relative error of its attention output while all
    other heads are exact, which needs no trained model.
    """
    from advisor.cli.progress import ProgressLines
    from advisor.rendering.text.quality import quality_text
    from advisor.service import measure_quality

    chosen = [_chosen(word) for word in techniques]
    with ProgressLines(quiet=output.quiet) as progress:
        report = measure_quality(model, chosen, progress, text=text, tokens=tokens)
    output.emit(lambda: report.model_dump(mode="json"), lambda: quality_text(report, heads=heads, **output.look))
    return ExitCode.OK


def _chosen(word: str) -> "Chosen":
    """`kv-window:window=128` as a technique with its options. Raises as `parse_technique` does."""
    # Imported here because it loads every technique.
    from advisor.backends.processes.jobs import Chosen
    from advisor.backends.technique_names import parse_technique

    read = parse_technique(word)
    return Chosen(name=read.name, options=dict(read.options))
