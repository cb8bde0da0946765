"""The pages of `advisor explain`: techniques, metrics, limits, plan fields and error codes. Needs no network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic import BaseModel

from advisor.help.error_topics import ERROR_PAGES
from advisor.help.field_docs import field_docs, records_under
from advisor.planfile.file import PlanFile
from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.quantities.limits import LIMIT_OF, LIMITS, METRIC_OF
from advisor.quantities.metrics import METRICS, MetricInfo

_METRICS = {
    "ttft": "Time to first token: from submission of a request to its first output token, including queueing and prefill.",
    "tpot": "Time per output token: (last token − first token)/(tokens − 1) of a request; it excludes TTFT.",
    "e2e": "End-to-end latency: from submission of a request to its last output token.",
    "request_rate": "The highest request rate that can be sustained; above it, the queue grows without bound.",
    "goodput": "Requests per second that meet the limits on TTFT and TPOT, counted request by request.",
    "throughput": "Output tokens of all requests divided by the wall time of the run.",
    "decode": "Decode speed that one request sees: 1000 divided by TPOT in ms.",
    "prefill": "Prompt tokens per second of one prefill.",
    "peak_memory": "The peak memory of the process on one device, everything included.",
    "weights": "Memory of the weights per device, including scales and the layers that are not quantised.",
    "kv_cache": "Memory of the keys and values of past tokens, rounded up to blocks, per device.",
    "max_concurrency": "Number of requests of the workload's length that fit in memory at the same time.",
    "acceptance": "Tokens beyond the first that a sequence gains per decoding step, divided by the draft positions of a step.",
    "prefix_hits": "Prompt tokens found in the prefix cache, divided by all prompt tokens of the run.",
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
    """One topic: its kind, and (heading, text) parts; the first part may have no heading."""

    topic: str
    kind: str
    parts: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, object]:
        """The form that `--json` prints."""
        return {"topic": self.topic, "kind": self.kind, "parts": [{"heading": heading, "text": text} for heading, text in self.parts]}


def explain(topic: str) -> Page:
    """The page of a topic. Raises `AdvisorError` `topic-not-found`, with the closest topics as help."""
    name = topic.strip().strip("`").removeprefix("error[").removesuffix("]")
    for find in (_technique_page, _error_page, _metric_page, _limit_page, _plan_field_page):
        if page := find(name):
            return page
    if not name.startswith("-") and (page := _metric_page(name.replace("-", "_")) or _plan_field_page(name.replace("-", "_"))):
        return page
    if page := _statistics_page(name.lower().replace("-", "_")):
        return page
    raise AdvisorError(
        "topic-not-found",
        f"no page for `{topic}`",
        exit_code=ExitCode.USAGE,
        help=(*(f"did you mean `advisor explain {item}`?" for item in _near(name)), "advisor explain   lists every topic"),
    )


def _near(name: str) -> list[str]:
    """At most four topics that are spelt similarly or contain a similar word, such as `weights-int4` for `int4`."""
    items = list(dict.fromkeys(item for items in topics().values() for item in items))
    words = {item: re.split(r"[-_.]", item) for item in items}
    every = sorted({word for parts in words.values() for word in parts})
    similar = get_close_matches(name, items, n=3) if name not in every else []
    closest = set(get_close_matches(name, every, n=1 if name in every else 2))
    return similar or [item for item in items if closest & set(words[item])][:4]


def topics() -> dict[str, list[str]]:
    """Every topic by kind."""
    from advisor.backends.techniques import TECHNIQUES  # imports every technique; an error code needs none

    return {
        "techniques": [technique.name for technique in TECHNIQUES],
        "metrics": list(METRICS),
        "limits": list(LIMITS),
        "plan fields": [path for path, _ in _plan_fields()],
        "error codes": sorted(ERROR_PAGES),
    }


def _technique_page(name: str) -> Page | None:
    from advisor.backends.technique import explanation
    from advisor.backends.techniques import TECHNIQUES

    kind = next((technique for technique in TECHNIQUES if technique.name == name), None)
    if kind is None:
        return None
    text = explanation(kind())
    options = "; ".join(f"{option} = {value}" for option, value in text.options.items())
    parts = (
        ("", text.does),
        ("Helps when", text.helps_when),
        ("Hurts when", text.hurts_when),
        ("Options", options),
        ("Source", text.source),
    )
    return Page(name, "technique", tuple(part for part in parts if part[1]))


def _error_page(name: str) -> Page | None:
    return Page(name, "error code", (("", ERROR_PAGES[name]),)) if name in ERROR_PAGES else None


def _metric_page(name: str) -> Page | None:
    info = METRICS.get(name)
    if info is None:
        return None
    text = next(text for start, text in _METRICS.items() if name.startswith(start))
    return Page(
        name,
        "metric",
        (("", f"{text} {_statistic(name)}".strip()), ("Unit", info.unit or "none"), ("Better", _better(info)), *_bound(info)),
    )


def _statistics_page(name: str) -> Page | None:
    """The page of a quantity with several statistics, such as `tpot`, or of the one metric whose name begins so."""
    matches = [info for info in METRICS.values() if name and info.name.startswith(f"{name}_")]
    if len(matches) < 2:
        return _metric_page(matches[0].name) if matches else None
    texts = [text for start, text in _METRICS.items() if matches[0].name.startswith(start)]
    statistics = "; ".join(f"{info.name}: {_statistic(info.name).rstrip('.')}" for info in matches)
    bounds = {part for info in matches for part in _bound(info)}
    first = matches[0]
    return Page(name, "metric", (("", texts[0]), ("Unit", first.unit), ("Better", _better(first)), *bounds, ("Metrics", statistics)))


def _statistic(name: str) -> str:
    return next((text for ending, text in _STATISTICS.items() if name.endswith(ending)), "")


def _better(info: MetricInfo) -> str:
    return "higher" if info.higher_is_better else "lower"


def _bound(info: MetricInfo) -> tuple[tuple[str, str], ...]:
    limit = LIMIT_OF.get(info.name)
    return () if limit is None else (("Limit", f"{limit.flag} of `advisor plan`"),)


def limit_named(name: str) -> str | None:
    """The name in `LIMITS` of the limit of that name or flag."""
    return next((limit.name for limit in LIMITS.values() if name in (limit.name, limit.flag, limit.flag.removeprefix("--"))), None)


def _limit_page(name: str) -> Page | None:
    field = limit_named(name)
    if field is None:
        return None
    info = METRIC_OF[field]
    bound = "at least" if info.higher_is_better else "at most"
    metric = _metric_page(info.name)
    assert metric is not None
    return Page(name, "limit", (("", f"`{LIMITS[field].flag} X`: {info.label} must be {bound} X {info.unit}."), *metric.parts))


def _plan_field_page(name: str) -> Page | None:
    paths = [(path, text) for path, text in _plan_fields() if path == name or path.endswith(f".{name}")]
    if not paths:
        return None
    return Page(name, "plan field", tuple((path, text) for path, text in paths))


def _plan_fields() -> Iterator[tuple[str, str]]:
    """Every field of the plan file with its documentation."""
    return _fields(PlanFile, "", field_docs(PlanFile))


def _fields(record: type[BaseModel], under: str, docs: dict[str, dict[str, str]]) -> Iterator[tuple[str, str]]:
    for name, field in record.model_fields.items():
        inner = next((part for part in records_under(field.annotation)), None)
        text = docs.get(record.__name__, {}).get(name) or (inner.__doc__ if inner else "") or ""
        yield f"{under}{name}", " ".join((text, _allowed(field.annotation))).strip()
        if inner is not None:
            yield from _fields(inner, f"{under}{name}.", docs)


def _allowed(annotation: object) -> str:
    """The values of a field with a fixed set of choices."""
    words = [str(part) for part in getattr(annotation, "__args__", ()) if isinstance(part, str)]
    return f"One of: {', '.join(words)}." if words else ""
