"""Reads a Hugging Face `config.json` into a `ModelSpec`: layers, matrices, cache and state sizes. One reader per `model_type`."""
