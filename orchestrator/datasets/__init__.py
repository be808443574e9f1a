"""Data sets in folders and below S3 prefixes: found, listed, checked, staged, fetched to a node."""
