"""`advisor models`: list and show model architectures."""

from typing import TYPE_CHECKING

import click

from advisor.cli.options import DefaultGroup, Output, with_output
from advisor.profiles.errors import ExitCode

if TYPE_CHECKING:  # loaded when the command runs
    from advisor.profiles.architectures.spec import ModelSpec


@click.group("models", cls=DefaultGroup, short_help="List and show model architectures.")
def command() -> None:
    """List and show model architectures. Alone it lists; `advisor models MODEL` shows one."""


@command.command("list")
@with_output
def list_all(output: Output) -> ExitCode:
    """List the shipped architectures, which can be planned for without a network."""
    from advisor.profiles.architectures.spec import shipped_models
    from advisor.profiles.model_store import find_model
    from advisor.rendering.text.models import models_text

    models = [find_model(id) for id in shipped_models()]
    output.emit(lambda: {"models": [_record(spec) for spec in models]}, lambda: models_text(models, **output.look))
    return ExitCode.OK


@command.command("show")
@click.argument("model")
@click.option("--offline", is_flag=True, help="Never look for the model on the network.")
@with_output
def show(output: Output, model: str, offline: bool) -> ExitCode:
    """Show the architecture of MODEL: a folder, a config.json or an id."""
    from advisor.profiles.model_store import find_model
    from advisor.rendering.text.models import model_text

    spec = find_model(model, offline=offline)
    output.emit(lambda: _record(spec), lambda: model_text(spec, **output.look))
    return ExitCode.OK


def _record(spec: "ModelSpec") -> dict[str, object]:
    """The summary of an architecture that `--json` prints."""
    from advisor.profiles.architectures.spec import towers_record

    return {
        "id": spec.id,
        "family": spec.family,
        "architecture": spec.architecture,
        "parameters": spec.parameters,
        "active_parameters": spec.active_parameters,
        "layers": spec.depth,
        "attention_layers": len(spec.attention_layers),
        "recurrent_layers": len(spec.recurrent_layers),
        "hidden_size": spec.hidden_size,
        "vocab_size": spec.vocab_size,
        "max_context_tokens": spec.max_context_tokens,
        "weight_format": spec.weight_format,
        "weight_format_reason": spec.weight_format_reason,
        "checkpoint_bytes": round(spec.checkpoint_bytes),
        "bytes_by_format": {format: round(size) for format, size in spec.bytes_by_format.items()},
        "cache_format": spec.cache_format,
        "warnings": list(spec.warnings),
        "kv_elements_per_token": spec.kv_elements_per_token,
        "kv_steps": [
            {"from_tokens": tokens, "elements_per_token": elements, "bf16_bytes_per_token": 2 * elements}
            for tokens, elements in spec.cache_steps
        ],
        "state_bytes": spec.state_bytes,
        "config_digest": spec.config_digest,
        "language_model_only": spec.language_model_only,
        "towers": towers_record(spec),
        "uncounted_towers": list(spec.uncounted_towers),
    }
