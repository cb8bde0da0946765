"""Values become text and HTML pages. Computes nothing."""
