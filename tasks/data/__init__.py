"""The data set on disk, its sources, and samples on their way to a model."""
