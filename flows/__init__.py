"""Downsize's decisions: the Prefect flow, promotion and the command line."""
