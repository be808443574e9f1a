"""Data sets on a disk: found, checked, decoded and cached."""
