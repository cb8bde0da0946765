"""The forward pass: attention hooks in transformers, and the runtime's own decoder."""
