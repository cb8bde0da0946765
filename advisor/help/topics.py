"""Explains a technique, metric, limit, plan field or error code, offline."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import BaseModel

from advisor.help.error_topics import ERROR_PAGES
from advisor.help.field_docs import field_docs, records_under
from advisor.planfile.file import PlanFile
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.request import Limits
from advisor.quantities.limits import LIMIT_OF, LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo

_METRICS = {
    "ttft": "Time to first token: from submission of a request to its first output token, queueing and prefill included.",
    "tpot": "Time per output token: (last token − first token)/(tokens − 1) of a request; TTFT is not in it.",
    "e2e": "End-to-end latency: from submission of a request to its last output token.",
    "request_rate": "The most requests per second that can be served for as long as they come; with more, the queue grows without end.",
    "goodput": "Requests per second that keep the limits on TTFT and TPOT, each request on its own.",
    "throughput": "Output tokens of all requests over the wall time of the run.",
    "decode": "Decode speed that one request sees: 1000 divided by TPOT in ms.",
    "prefill": "Prompt tokens per second of one prefill.",
    "peak_memory": "The most memory that the process holds on one device, everything in it.",
    "weights": "Memory of the weights, with their scales and the parts that are not quantised, per device.",
    "kv_cache": "Memory of the keys and values of past tokens, rounded up to blocks, per device.",
    "max_concurrency": "Requests of the asked length that fit in memory at once.",
    "acceptance": "Tokens beyond the first that a sequence gains per decoding step, divided by the draft positions of a step.",
    "prefix_hits": "Prompt tokens that an earlier request had left in the cache, divided by all prompt tokens of the run.",
    "quality_loss": "Perplexity increase over the unmodified model, in percent, on a named text. The plan file calls it quality_drop_pct.",
    "perplexity": "exp of the mean negative log-likelihood per token on a named text; lower is better.",
    "nll_difference": "Paired difference of the mean negative log-likelihood per token from the unmodified model's, on the same tokens.",
    "kl_divergence": "Mean Kullback-Leibler divergence of the next-token distribution from the unmodified model's.",
    "top1_agreement": "Share of positions where the most likely next token is the same as the unmodified model's.",
}
_STATISTICS = {
    "_mean": "Mean over the requests of a run.",
    "_p50": "Median over the requests of a run.",
    "_p95": "95th percentile over the requests.",
    "_p99": "99th percentile over the requests.",
}


@dataclass(frozen=True, slots=True)
class Page:
    """One topic: what kind it is, and paragraphs under headings; the first has none."""

    topic: str
    kind: str
    parts: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, object]:
        """The published form."""
        return {"topic": self.topic, "kind": self.kind, "parts": [{"heading": heading, "text": text} for heading, text in self.parts]}


def explain(topic: str) -> Page:
    """The page of a topic. Raises `AdvisorError` `topic-not-found` with the nearest ones."""
    name = topic.strip().strip("`").removeprefix("error[").removesuffix("]")
    for find in (_technique, _error, _metric, _limit, _plan_field):
        if page := find(name):
            return page
    if not name.startswith("-") and (page := _metric(name.replace("-", "_")) or _plan_field(name.replace("-", "_"))):
        return page
    if page := _metrics_of(name.lower().replace("-", "_")):
        return page
    raise AdvisorError(
        "topic-not-found",
        f"no page for `{topic}`",
        exit_code=ExitCode.USAGE,
        help=(*(f"did you mean `advisor explain {item}`?" for item in _near(name)), "advisor explain   lists every topic"),
    )


def _near(name: str) -> list[str]:
    """Few topics that may be meant: spelt alike, or with a word like it, such as `int4` for `weights-int4`."""
    items = [item for items in topics().values() for item in items]
    words = {item: re.split(r"[-_.]", item) for item in items}
    every = sorted({word for parts in words.values() for word in parts})
    alike = get_close_matches(name, items, n=3) if name not in every else []
    meant = set(get_close_matches(name, every, n=1 if name in every else 2))
    return alike or [item for item in items if meant & set(words[item])][:4]


def topics() -> dict[str, list[str]]:
    """Every topic by kind."""
    from advisor.backends.techniques import TECHNIQUES  # one import for each technique; a lookup of an error code needs none

    return {
        "techniques": [technique.name for technique in TECHNIQUES],
        "metrics": list(METRICS),
        "limits": [name for name in Limits.model_fields if name not in METRICS],
        "plan fields": [path for path, _ in _plan_fields()],
        "error codes": sorted(ERROR_PAGES),
    }


def _technique(name: str) -> Page | None:
    from advisor.backends.technique import explanation
    from advisor.backends.techniques import TECHNIQUES

    found = next((technique for technique in TECHNIQUES if technique.name == name), None)
    if found is None:
        return None
    told = explanation(found())
    options = "; ".join(f"{option} = {value}" for option, value in told.options.items())
    parts = (
        ("", told.does),
        ("Helps when", told.helps_when),
        ("Hurts when", told.hurts_when),
        ("Options", options),
        ("Source", told.source),
    )
    return Page(name, "technique", tuple(part for part in parts if part[1]))


def _error(name: str) -> Page | None:
    return Page(name, "error code", (("", ERROR_PAGES[name]),)) if name in ERROR_PAGES else None


def _metric(name: str) -> Page | None:
    shown = METRICS.get(name)
    if shown is None:
        return None
    told = next(text for start, text in _METRICS.items() if name.startswith(start))
    return Page(
        name,
        "metric",
        (("", f"{told} {_statistic(name)}".strip()), ("Unit", shown.unit or "none"), ("Better", _better(shown)), *_bound(shown)),
    )


def _metrics_of(name: str) -> Page | None:
    """The page of what several metrics are statistics of, as `tpot`; of the one metric that begins so where there is one."""
    found = [shown for shown in METRICS.values() if name and shown.name.startswith(f"{name}_")]
    if len(found) < 2:
        return _metric(found[0].name) if found else None
    told = [text for start, text in _METRICS.items() if found[0].name.startswith(start)]
    known = "; ".join(f"{shown.name}: {_statistic(shown.name)}" for shown in found)
    bounds = {part for shown in found for part in _bound(shown)}
    return Page(name, "metric", (("", told[0]), ("Unit", found[0].unit), ("Better", _better(found[0])), *bounds, ("Metrics", known)))


def _statistic(name: str) -> str:
    return next((text for ending, text in _STATISTICS.items() if name.endswith(ending)), "")


def _better(shown: MetricInfo) -> str:
    return "higher" if shown.higher_is_better else "lower"


def _bound(shown: MetricInfo) -> tuple[tuple[str, str], ...]:
    limit = LIMIT_OF.get(shown.name)
    return () if limit is None else (("Limit", f"{limit.flag} of `advisor plan`"),)


def limit_named(name: str) -> str | None:
    """The field of `Limits` that a field name or a flag stands for."""
    return next((limit.name for limit in LIMITS.values() if name in (limit.name, limit.flag, limit.flag.removeprefix("--"))), None)


def _limit(name: str) -> Page | None:
    field = limit_named(name)
    if field is None:
        return None
    shown = METRIC_OF[field]
    bound = "at least" if shown.higher_is_better else "at most"
    told = _metric(shown.name)
    assert told is not None
    return Page(name, "limit", (("", f"`{LIMITS[field].flag} X`: {shown.label} must be {bound} X {shown.unit}."), *told.parts))


def _plan_field(name: str) -> Page | None:
    paths = [(path, text) for path, text in _plan_fields() if path == name or path.endswith(f".{name}")]
    if not paths:
        return None
    return Page(name, "plan field", tuple((path, text) for path, text in paths))


def _plan_fields() -> Iterator[tuple[str, str]]:
    """Every field of the plan file with what is said about it."""
    return _fields(PlanFile, "", field_docs(PlanFile))


def _fields(record: type[BaseModel], under: str, docs: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    for name, field in record.model_fields.items():
        inner = next((part for part in records_under(field.annotation)), None)
        text = docs.get(record.__name__, {}).get(name) or (inner.__doc__ if inner else "") or ""
        yield f"{under}{name}", " ".join((text, _allowed(field.annotation))).strip()
        if inner is not None:
            yield from _fields(inner, f"{under}{name}.", docs)


def _allowed(annotation: object) -> str:
    """The words that a field may hold, where it is a choice."""
    words = [str(part) for part in getattr(annotation, "__args__", ()) if isinstance(part, str)]
    return f"One of: {', '.join(words)}." if words else ""
