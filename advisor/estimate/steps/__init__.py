"""Times of whole steps."""
