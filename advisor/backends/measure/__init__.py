"""Measuring: latency, memory and quality, every candidate in a fresh process."""
