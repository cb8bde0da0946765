"""The in-process runtime that executes a stack of techniques on CPU or CUDA."""
