"""A run becomes a comparison, a better machine profile and the plans to try next."""
