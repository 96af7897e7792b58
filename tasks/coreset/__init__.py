"""Which training samples the student learns from."""
