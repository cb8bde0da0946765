"""A question becomes advice: search, price, rank, simulate the finalists, explain."""
