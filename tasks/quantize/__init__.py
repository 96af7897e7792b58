"""The pruned student in eight bits."""
