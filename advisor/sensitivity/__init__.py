"""What would change the advice: slack of limits, marginal gains, counterfactuals."""
