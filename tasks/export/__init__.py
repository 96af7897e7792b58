"""From PyTorch to what is deployed."""
