"""The one estimator: operators of a deployment, their time and memory, serving, ranges."""
