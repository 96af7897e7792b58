"""What a run found, told three ways: a table for the terminal, one self-contained page, plots for DVC and MLflow."""
