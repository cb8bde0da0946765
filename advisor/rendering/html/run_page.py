"""A run as one self-contained HTML page: plots, tables, missed limits, environment and the commands to repeat it. No script."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from advisor.feedback.compare import Comparison, compare
from advisor.planfile.command import plan_command
from advisor.profiles.files import write_whole
from advisor.profiles.request import Load
from advisor.profiles.run import Run
from advisor.quantities.formatting import number, quantity
from advisor.quantities.limits import LIMITS
from advisor.quantities.metrics import METRICS
from advisor.rendering.html.elements import Markup, joined, tag
from advisor.rendering.html.run_figures import contributions, distributions, ladders, memory, scatters
from advisor.rendering.html.run_verdict import verdict
from advisor.rendering.html.tables import every_number_table, quality_table, table
from advisor.rendering.text.run import pace_words, rung_label, workload_words

_TEMPLATE = Path(__file__).with_name("run_page.html")
STYLE = Path(__file__).with_name("page.css")
"""The style sheet of every page."""
_CARDS = ("tpot_ms_mean", "throughput_tok_s", "ttft_ms_mean", "peak_memory_gib", "perplexity")


def write_report(run: Run, path: Path) -> Path:
    """Write the page to `path`, whole or not at all. Raises `AdvisorError` as `write_whole` does."""
    return write_whole(path, report_html(run))


def report_html(run: Run) -> str:
    """The page as text: the same bytes for the same run."""
    comparison = compare(run)
    labels = [rung_label(rung, comparison.rungs) for rung in comparison.rungs]
    body = [
        _head(run),
        verdict(comparison),
        _cards(comparison),
        _section("Predicted and measured along the ladder", *ladders(comparison, labels)),
        _section("Predicted against measured", *scatters(comparison, labels)),
        _section("What each technique changed", *contributions(comparison)),
        _section("Requests", *distributions(run, labels)),
        _section("Memory by part", *memory(comparison, labels)),
        _section("Quality", *_quality(run, comparison, labels)),
        _section("Every number", tag("details", tag("summary", "All metrics of all rungs"), every_number_table(comparison, labels))),
        _section("How it was measured", _environment(run)),
        _section("Repeat it", *_repeat(run)),
    ]
    title = f"{run.title} · run {run.id}"
    page = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(title=joined(title), body=joined(*body), style=STYLE.read_text(encoding="utf-8"))


def _section(title: str, *content: str | None) -> Markup:
    return tag("section", tag("h2", title), *content) if any(content) else Markup("")


def _head(run: Run) -> Markup:
    what = f"{run.model} on {run.environment.device}: {workload_words(run.request.workload)}."
    return tag("header", tag("h1", run.title), tag("p", what), tag("p", f"Run {run.id} of {run.plan_id}, {run.created}.", class_="soft"))


def _cards(comparison: Comparison) -> Markup | None:
    """The full stack compared with the baseline, both measured."""
    final = comparison.full_stack
    if final is None or len(comparison.rungs) < 2:
        return None
    cards = []
    for name in _CARDS:
        before, after = comparison.rungs[0].metric(name), final.metric(name)
        if before and after and before.measured and after.measured:
            info = METRICS[name]
            was = f"baseline {quantity(before.measured.value, info.unit)}"
            cards.append(
                tag("div", tag("span", info.label), tag("b", quantity(after.measured.value, info.unit)), tag("span", was), class_="card")
            )
    return tag("div", *cards, class_="cards", role="group", aria_label="Full stack, measured") if cards else None


def _quality(run: Run, comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    quality = quality_table(comparison, labels)
    if quality is None:
        return []
    text = (
        f"Measured on {run.recipe.quality_tokens} tokens of {run.recipe.quality_text}. Loss is the perplexity increase over the "
        "unmodified model; the NLL difference is paired, token by token; KL divergence and top-1 agreement compare the "
        "distributions of the next token."
    )
    return [tag("p", text), quality]


def _environment(run: Run) -> Markup:
    machine, recipe = run.environment, run.recipe
    facts = {
        "device": machine.device,
        "threads": str(machine.threads),
        "Python": machine.python,
        **machine.packages,
        "commit": machine.commit or "not known",
        "fingerprint": machine.fingerprint,
    }
    seconds = [rung.seconds for rung in run.rungs if rung.seconds is not None]
    steps = {
        "requests": f"{recipe.requests} after {recipe.warmup_requests} to warm up",
        "repeats": str(recipe.repeats),
        "seed": str(recipe.seed),
        "quality": f"{recipe.quality_tokens} tokens of {recipe.quality_text}",
        "processes": f"one per rung, {quantity(sum(seconds), 's')} in all" if seconds else "one per rung",
        "pace": pace_words(run.paces) if run.paces else "not known",
        "limits": "; ".join(
            f"{name} {number(bound, trim=True)}" for name, bound in run.request.limits.model_dump(exclude_none=True).items()
        )
        or "none",
    }
    times = [(rung.name, rung.status.value, number(rung.seconds) if rung.seconds is not None else "-") for rung in run.rungs]
    ladder = table(("rung", "ended", "wall time, s"), times, caption="Rungs", text_columns=(1,))
    return tag("div", _list(facts), tag("div", _list(steps), ladder), class_="columns")


def _list(facts: dict[str, str]) -> Markup:
    return tag("dl", *(part for name, text in facts.items() for part in (tag("dt", name), tag("dd", text))))


def _repeat(run: Run) -> list[Markup]:
    commands = (_plan_command(run), "advisor apply plan.yaml --out run", "advisor compare run/run.json")
    return [tag("pre", "\n".join(commands)), tag("p", "Definitions: "
        "TTFT runs from submission to the first token; TPOT is (last token − first token)/(tokens − 1); "
        "throughput counts output tokens of all requests over wall time.", class_="soft")]  # fmt: skip


def _plan_command(run: Run) -> str:
    """The `advisor plan` command of the same question."""
    workload, request = run.request.workload, run.request
    options = {
        "--devices": request.devices if request.devices > 1 else None,
        "--context": workload.longest_tokens,
        "--prompt-tokens": workload.prompt_tokens,
        "--output-tokens": workload.output_tokens,
        "--shared-prefix": workload.shared_prefix_tokens,
        "--concurrency": workload.concurrency if workload.load is not Load.BURST else None,
        "--burst": workload.concurrency if workload.load is Load.BURST else None,
        "--load-trace": workload.trace.name if workload.trace is not None else None,
        **{limit.flag: request.limits.bound(limit.name) for limit in LIMITS.values()},
        "--request-rate": workload.request_rate_per_s,
        "--prefer": request.prefer.value,
    }
    return plan_command(run.model, options, require=request.require, forbid=request.forbid)
