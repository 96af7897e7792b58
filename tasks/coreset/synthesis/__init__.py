"""Samples that are made, not chosen: dataset distillation."""
