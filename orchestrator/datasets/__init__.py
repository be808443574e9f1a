"""Data sets, in folders and below S3 prefixes: found, listed, checked, staged, and fetched to a node's cache."""
