"""Checks token ids against a model's vocabulary before any of them is computed with."""

from collections.abc import Iterable, Sequence
from typing import Any

from advisor.profiles.errors import AdvisorError, ExitCode


def vocabulary_size(model: Any) -> int:
    """Number of token ids that the model has; they begin at 0."""
    return int(model.config.get_text_config().vocab_size)


def check_token_ids(model: Any, texts: Iterable[Sequence[int]]) -> None:
    """Raise `AdvisorError` `bad-tokens` for the first id that is not in the model's vocabulary, with its text and position."""
    size = vocabulary_size(model)
    for number, tokens in enumerate(texts):
        if tokens and (min(tokens) < 0 or max(tokens) >= size):
            wrong = next(index for index, token in enumerate(tokens) if not 0 <= token < size)
            raise AdvisorError(
                "bad-tokens",
                f"token id {tokens[wrong]} at position {wrong} of text {number} is not in the model's vocabulary of {size}",
                exit_code=ExitCode.USAGE,
                notes=(f"ids are 0 to {size - 1}",),
                help=("tokenise the text with the model's own tokenizer",),
            )
