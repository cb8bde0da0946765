"""`advisor explain`: one page on a technique, metric, limit, plan field or error code, with its numbers in a plan if one is given."""

from pathlib import Path

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode


def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The topics that begin with `incomplete`, for shell completion."""
    from advisor.help.topics import topics  # loads every technique: not needed for --help

    return sorted({name for names in topics().values() for name in names if name.startswith(incomplete)})


@click.command("explain", short_help="Explain a technique, metric, limit, plan field or error code.")
@click.argument("topic", required=False, shell_complete=complete)
@click.option(
    "--plan", "file", type=click.Path(path_type=Path), metavar="FILE", help="Add its numbers in this plan, and what would admit it."
)
@with_output
def command(output: Output, topic: str | None, file: Path | None) -> ExitCode:
    """Explain TOPIC offline: a technique, metric, limit, plan field or error code. Alone, list every topic.

    With --plan, a technique or a limit comes with its numbers in that plan; without TOPIC, every limit of it.
    """
    from advisor.help.text import page_text, topics_text
    from advisor.help.topics import explain, topics

    if topic is None and file is None:
        by_kind = topics()
        output.emit(lambda: {"topics": by_kind}, lambda: topics_text(by_kind, **output.look))
        return ExitCode.OK
    if file is not None:
        from advisor.help.plan_topics import explain_in_plan  # loads the planner
        from advisor.planfile.check import warn_unknown_keys
        from advisor.planfile.store import read_plan

        plan = read_plan(file)
        warn_unknown_keys(plan, file, output.note)
        page = explain_in_plan(topic, plan)
    else:
        assert topic is not None
        page = explain(topic)
    output.emit(page.as_dict, lambda: page_text(page, **output.look))
    return ExitCode.OK
