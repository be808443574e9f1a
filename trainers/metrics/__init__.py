"""The metrics that restored images are scored by."""
