"""Bytes on one device: weights, KV cache, activations."""
