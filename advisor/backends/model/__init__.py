"""The loaded model and its linear layers."""
