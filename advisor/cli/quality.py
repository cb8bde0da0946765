"""`advisor quality`: what techniques of attention and cache cost on a model of this machine, down to every head."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode

if TYPE_CHECKING:  # loaded when the command runs
    from advisor.backends.processes.jobs import Chosen


@click.command("quality", short_help="Measure what techniques cost in quality, head by head.")
@click.argument("model")
@click.option("--with", "techniques", multiple=True, metavar="TECH[:OPTION=X,...]", help="A technique to measure; may be repeated.")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="Text to score; without it, the one that is shipped.")
@click.option("--tokens", type=click.IntRange(min=32), default=4096, show_default=True, help="How much of it.")
@click.option("--heads", type=click.IntRange(min=1), default=10, show_default=True, help="How many of the worst heads to show.")
@with_output
def command(output: Output, model: str, techniques: tuple[str, ...], text: Path | None, tokens: int, heads: int) -> ExitCode:
    """Run MODEL, a folder with weights, over a text with and without each technique, one technique at a time.

    Without --with, every format of the cache is measured. For each technique: the perplexity and what compares predictions with
    those of the unmodified model; and for every head of every layer, how far the outputs of its attention are from exact ones while
    all others are exact, as a share of their norm. That works on any model, trained or not.
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
    """`kv-window:window=128` as a technique with its options. Raises as `technique_word` does."""
    # Deferred: loads every technique.
    from advisor.backends.processes.jobs import Chosen
    from advisor.backends.technique_names import technique_word

    read = technique_word(word)
    return Chosen(name=read.name, options=dict(read.options))
