"""Accuracy, size and speed."""
