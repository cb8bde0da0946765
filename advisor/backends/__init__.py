"""Acts: techniques, the runtime, measuring. Knows nothing of planning or screens."""
