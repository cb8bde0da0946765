"""Reads a CSV table of published measurements; rows that cannot be predicted get the reason."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import regular_bytes
from advisor.profiles.request import Load
from advisor.validation.run_settings import NO_SETTINGS, RunSettings, run_settings

METRICS = (
    "ttft_ms",
    "tpot_ms",
    "output_tok_s_total",
    "output_tok_s_per_gpu",
    "decode_tok_s_single_stream",
    "prefill_tok_s",
    "peak_memory_gb",
    "max_batch",
)
LOADS = {"closed": Load.CLOSED, "max": Load.OFFLINE, "open": Load.OPEN, "burst": Load.BURST}
"""Values of the column `load`."""
COLUMNS = (
    *("case_id", "metric", "value", "hardware", "devices", "tp", "pp", "engine", "engine_version", "model", "weights", "kv"),
    *("prompt_tokens", "output_tokens", "concurrency", "request_rate", "load", "source", "notes"),
)
REQUIRED = ("case_id", "metric", "value", "hardware", "engine", "model")
SHORT_ANSWER_TOKENS = 128
"""Output length where a latency was published without one: the default of llama-bench and most READMEs."""

MOST_BYTES = 64 * 1024**2
"""Largest table that is read."""
_PART_OF_SOURCE = re.compile(r'[ ,;]@|\s+"|\s\d{4}-\d\d-\d\d|\s+\(deleted')
MOST_REQUESTS = 2**17
"""Most requests in flight; each is simulated several times."""


class UnpredictableCaseError(Exception):
    """A row that cannot be predicted; the text is the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseConfiguration:
    """What was measured: everything in a row but its metric. Rows with one configuration share one prediction."""

    hardware: str
    devices: int
    tp: int
    pp: int
    attention_dp: int
    """Replicas of attention (data-parallel attention)."""
    expert_devices: int
    """Devices among which the experts of a layer are divided."""
    engine: str
    model: str
    weights: str
    kv: str
    prompt_tokens: int
    output_tokens: int
    concurrency: int | None
    request_rate: float | None
    load: Load
    run: RunSettings = NO_SETTINGS
    """Settings of the benchmark's launch script that the row does not state."""


@dataclass(frozen=True, slots=True)
class PublishedCase:
    """One published measurement."""

    case_id: str
    metric: str
    measured: float
    source: str
    engine: str
    hardware: str
    model: str
    precision_stated: bool
    """Whether the row states the format of the weights."""
    configuration: CaseConfiguration | None
    unclear: str
    """Why there is no configuration; empty where there is one."""

    @property
    def publisher(self) -> str:
        """Who published: a repository or site, of which all pages err together; of threads each is another person's, one publisher."""
        first = self.publication.split(maxsplit=1)[0]
        if first.startswith("github.com/") or "/" not in first:
            return first if "/" in first else self.publication
        return "/".join(first.split("/")[:2])

    @property
    def publication(self) -> str:
        """The page or data set of the source, without commit, table and date."""
        return _PART_OF_SOURCE.split(self.source, maxsplit=1)[0].strip() or "not stated"


def read_cases(path: Path) -> list[PublishedCase]:
    """Every row of a CSV table with `COLUMNS`, of which `REQUIRED` must be there. Raises `AdvisorError` `bad-cases`."""
    try:
        text = regular_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise _bad(path, f"cannot be read: {(error.strerror or str(error)).lower()}", exit_code=ExitCode.MISSING) from error
    except UnicodeDecodeError as error:
        raise _bad(path, f"not UTF-8 text at byte {error.start}") from error
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = reader.fieldnames or []
        missing = [name for name in REQUIRED if name not in columns]
        if missing:
            raise _bad(path, f"no column {', '.join(missing)}", f"the columns are {', '.join(COLUMNS)}")
        if cases := [_case({name: (row.get(name) or "").strip() for name in COLUMNS}) for row in reader]:
            return cases
        raise _bad(path, "it holds no case")
    except csv.Error as error:
        raise _bad(path, f"not a CSV table: {error}") from error


def _bad(path: Path, problem: str, *help_lines: str, exit_code: ExitCode = ExitCode.USAGE) -> AdvisorError:
    return AdvisorError("bad-cases", f"{path}: {problem}", exit_code=exit_code, help=help_lines, file=str(path))


def _case(row: dict[str, str]) -> PublishedCase:
    configuration, unclear, measured = None, "", float("nan")
    try:
        measured = _number(row, "value")
        configuration = configuration_of(row)
    except UnpredictableCaseError as reason:
        unclear = str(reason)
    stated = bool(row["weights"])
    return PublishedCase(
        row["case_id"],
        row["metric"],
        measured,
        row["source"],
        row["engine"].lower(),
        row["hardware"],
        row["model"],
        stated,
        configuration,
        unclear,
    )


def configuration_of(row: dict[str, str]) -> CaseConfiguration:
    """The configuration in a row. Raises `UnpredictableCaseError` where the row is incomplete or has unknown values."""
    if row["metric"] not in METRICS:
        raise UnpredictableCaseError(f"unknown metric `{row['metric']}`")
    if row["load"] and row["load"] not in LOADS:
        raise UnpredictableCaseError(f"unknown load `{row['load']}`")
    load = LOADS[row["load"]] if row["load"] else Load.CLOSED
    prompt, output = _lengths(row)
    tp, pp = _count(row, "tp", 1), _count(row, "pp", 1)
    layout = _layout(_count(row, "devices", tp * pp), tp, pp, _notes(row["notes"]))
    rate = _number(row, "request_rate") if row["request_rate"] else None
    if load is Load.OPEN and rate is None:
        raise UnpredictableCaseError("an open load without a request rate")
    concurrency = _count(row, "concurrency", 0) or None
    if concurrency is not None and concurrency > MOST_REQUESTS:
        raise UnpredictableCaseError(f"{concurrency} requests in flight are more than the {MOST_REQUESTS} that are simulated")
    if load in (Load.CLOSED, Load.BURST) and concurrency is None:
        concurrency = 1
    run = run_settings(row)
    return CaseConfiguration(
        hardware=row["hardware"],
        devices=layout[0],
        tp=layout[1],
        pp=pp,
        attention_dp=layout[2],
        expert_devices=layout[3],
        engine=run.engine or row["engine"].lower(),
        model=row["model"],
        weights=row["weights"],
        kv=row["kv"],
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=concurrency,
        request_rate=rate,
        load=load,
        run=run,
    )


def _lengths(row: dict[str, str]) -> tuple[int, int]:
    """Prompt and output length. Defaults only for the rate of one stream, which hardly depends on them; a throughput does."""
    prompt, output = (_count(row, name, -1) for name in ("prompt_tokens", "output_tokens"))
    serving = row["metric"] in ("output_tok_s_total", "output_tok_s_per_gpu", "max_batch") or _count(row, "concurrency", 1) > 1
    if serving and row["metric"] != "peak_memory_gb" and (prompt < 0 or output < 0):
        raise UnpredictableCaseError("prompt and output lengths are not stated")
    if row["metric"] in ("ttft_ms", "prefill_tok_s") and prompt < 0:
        raise UnpredictableCaseError("the prompt's length is not stated")
    if row["metric"] in ("ttft_ms", "prefill_tok_s", "peak_memory_gb") and output < 0:
        output = 1
    return max(prompt, 1), output if output > 0 else 1 if output == 0 else SHORT_ANSWER_TOKENS


def _layout(devices: int, tp: int, pp: int, notes: dict[str, int]) -> tuple[int, int, int, int]:
    """Devices, tensor parallelism, attention replicas and devices among which experts are divided.

    Corrects three notations of the published benchmarks that count a group twice; two are supported by rows with equal or close
    measurements, the last is inferred from memory and speed:
    `moe_tp=8;moe_ep=8` on 64 devices and `moe_tp=1;moe_ep=8` on 8 are one run on 8; `attention_dp=4` with `tp=4` on 16 and
    `moe_ep=4` on 4 are one run on 4; experts on more devices than tp times attention_dp mean replicas that were not stated.
    """
    replicas, moe_tp, moe_ep = (notes.get(name, 1) for name in ("attention_dp", "moe_tp", "moe_ep"))
    expert_devices = moe_tp * moe_ep
    if moe_tp == moe_ep > 1 and devices == expert_devices:
        devices = expert_devices = moe_tp
        tp, replicas = min(tp, devices), min(replicas, devices)
    elif replicas == tp > 1 and devices == expert_devices == tp * replicas:
        devices, tp, expert_devices = replicas, 1, replicas
    elif expert_devices > devices * pp:
        devices, replicas = expert_devices * pp, max(expert_devices // tp, 1)
    return devices, tp, replicas, expert_devices


def _notes(notes: str) -> dict[str, int]:
    """Counts in notes such as `moe_ep=8;attention_dp=4`."""
    pairs = (part.split("=", 1) for part in notes.split(";") if part.count("=") == 1)
    return {key.strip(): int(value) for key, value in pairs if value.strip().isdigit() and int(value) > 0}


def _count(row: dict[str, str], name: str, absent: int) -> int:
    if not row[name]:
        return absent
    value = _number(row, name)
    if value != int(value) or value < 0 or (value == 0 and name in ("devices", "tp", "pp")):
        raise UnpredictableCaseError(f"{name} is `{row[name]}`, not a count")
    return int(value)


def _number(row: dict[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        raise UnpredictableCaseError(f"{name} is `{row[name]}`, not a number") from None
    if not 0 <= value < float("inf"):
        raise UnpredictableCaseError(f"{name} is `{row[name]}`, not a positive number")
    return value
