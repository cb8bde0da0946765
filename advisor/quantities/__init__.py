"""The metrics' labels and units, and how numbers are parsed and formatted."""
