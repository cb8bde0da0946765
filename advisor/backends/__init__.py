"""Techniques, the runtime that executes them, and measurement."""
