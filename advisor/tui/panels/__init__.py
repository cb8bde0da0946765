"""The panels of the Plan screen, one a file: each shows frozen values and sends what a person does as messages."""
