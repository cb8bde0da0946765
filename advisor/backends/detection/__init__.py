"""Detects the machine's processor, memory and GPUs, and contention by other processes."""
