"""Measures the quality loss of techniques on a local model, in a child process."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from advisor.backends.detection.detect import detect, detected_hardware
from advisor.backends.model.load import check_tokenizer
from advisor.backends.processes.child import run_job
from advisor.backends.processes.events import OnEvent
from advisor.backends.processes.jobs import Chosen, QualityJob
from advisor.backends.technique import Slot
from advisor.backends.techniques import TECHNIQUES, by_name
from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import is_file
from advisor.profiles.model_store import find_model
from advisor.profiles.quality import QualityReport
from advisor.profiles.run import RungStatus
from advisor.profiles.weight_files import weights_on_disk
from advisor.running.preflight import HELDOUT_TEXT

DEFAULT_TECHNIQUES = tuple(technique.name for technique in TECHNIQUES if technique.slot is Slot.KV_FORMAT)
"""Techniques that are measured when none is given."""
MEASURABLE_SLOTS = frozenset({Slot.ARCHITECTURE, Slot.ATTENTION, Slot.KV_FORMAT, Slot.KV_EVICTION})
"""Slots whose techniques change what attention reads and do not change the model."""


def measure_techniques(
    model: str, techniques: Sequence[Chosen], on_event: OnEvent | None, *, text: Path | None = None, tokens: int = 4096
) -> QualityReport:
    """Compare each technique, alone, with the unmodified model on `tokens` tokens of `text`; default: every KV cache format.

    Raises `AdvisorError`: `text-not-found`, `weights-not-found`, `unknown-technique`, `not-measurable` before any process starts,
    `quality-failed` with the child's notes.
    """
    chosen = tuple(techniques) or tuple(Chosen(name=name) for name in DEFAULT_TECHNIQUES)
    for technique in chosen:
        check_measurable(technique)
    if text is not None and not is_file(text):
        raise AdvisorError(
            "text-not-found",
            f"cannot read the text {text}: no such file, or no regular one",
            exit_code=ExitCode.MISSING,
            file=str(text),
            field="text",
            action=ErrorAction.CORRECT,
        )
    spec = find_model(model)
    if spec.folder is None:
        raise AdvisorError(
            "weights-not-found",
            f"only the config of {spec.id} was found; its weights are needed",
            exit_code=ExitCode.MISSING,
            help=("give the folder with the weights as MODEL",),
            field="model",
            action=ErrorAction.CHOOSE,
        )
    weights_on_disk(Path(spec.folder))
    check_tokenizer(Path(spec.folder))
    detected = detect()
    job = QualityJob(
        model=spec.id,
        folder=spec.folder,
        techniques=chosen,
        text_file=str(text or HELDOUT_TEXT),
        tokens=tokens,
        device="cuda" if detected_hardware(detected).kind == "gpu" else "cpu",
        threads=detected.host.cpu.usable_cores,
    )
    with tempfile.TemporaryDirectory(prefix="advisor-quality-") as folder:
        result = run_job(job, on_event or (lambda event: None), log_file=Path(folder) / "quality.log")
    if result.status is not RungStatus.DONE or result.quality is None:
        raise AdvisorError(
            "quality-failed",
            f"quality could not be measured: {result.error or result.status.value}",
            exit_code=ExitCode.DIED,
            notes=result.notes,
        )
    return result.quality


def check_measurable(chosen: Chosen) -> None:
    """Raise `AdvisorError` where a technique is unknown, or is not of a measurable slot."""
    technique = by_name(chosen.name, dict(chosen.options), field="with")
    if technique.slot not in MEASURABLE_SLOTS:
        raise AdvisorError(
            "not-measurable",
            f"{chosen.name} does not change what attention reads; its quality shows when a plan with it is applied",
            exit_code=ExitCode.USAGE,
            help=("choose among those whose names begin with kv- or attention-",),
            field="with",
            action=ErrorAction.CHOOSE,
        )
