"""The comparison as a table, plots and one HTML page."""
