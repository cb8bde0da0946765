"""The forward pass: hooks into transformers, and our own walk of the decoder."""
