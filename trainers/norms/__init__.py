"""The normalisation layers, one in each file."""
