"""The networks, and beside each its shape, which planning reads without torch."""
