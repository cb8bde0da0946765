"""`advisor explain`: one page on a technique, metric, limit, plan field or error code."""

import click

from advisor.cli.options import Output, with_output
from advisor.profiles.errors import ExitCode


@click.command("explain", short_help="Explain a technique, metric, limit, plan field or error code.")
@click.argument("topic", required=False)
@with_output
def command(output: Output, topic: str | None) -> ExitCode:
    """Explain TOPIC offline: a technique, metric, limit, plan field or error code. Alone, list every topic."""
    from advisor.explain import explain, topics
    from advisor.views.pages import page_text, topics_text

    if topic is None:
        known = topics()
        output.emit(lambda: {"topics": known}, lambda: topics_text(known, **output.look))
        return ExitCode.OK
    page = explain(topic)
    output.emit(page.as_dict, lambda: page_text(page, **output.look))
    return ExitCode.OK
