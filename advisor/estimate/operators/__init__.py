"""What one step computes: records of operators, and building them from a deployment."""
