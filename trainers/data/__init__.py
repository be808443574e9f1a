"""Data sets on disk: found, checked, decoded and cached."""
