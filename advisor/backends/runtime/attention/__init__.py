"""Attention of one step: visibility, backends, autotuning."""
