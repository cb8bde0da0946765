"""What each metric is called, and how numbers are read and written."""
