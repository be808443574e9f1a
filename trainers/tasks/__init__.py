"""The restoration tasks, and the training patches they make."""
