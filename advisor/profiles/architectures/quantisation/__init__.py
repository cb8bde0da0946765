"""How checkpoints are quantised: one file for each library, and the formats of a model's modules that follow."""
