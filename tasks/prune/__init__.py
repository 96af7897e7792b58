"""Making the student smaller."""
