"""How uncertain a number is: ranges, probabilities, and where measurements end."""
