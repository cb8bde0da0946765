"""The panels of the Plan screen, one a file: each shows frozen values and posts what a user does as messages."""
