"""MLflow, DVC and Great Expectations, each behind a module of its own."""
