"""Search: many recipes under one budget, on one machine or a cluster; the Pareto front and the recipe to take."""
