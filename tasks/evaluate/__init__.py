"""Every file that ships, measured, compared and judged."""
