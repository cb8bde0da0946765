"""Plan how to run a Transformer, apply the plan, and compare what was measured with what was predicted."""

__version__ = "0.1.0"
