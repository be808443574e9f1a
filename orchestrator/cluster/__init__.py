"""A sweep as a job on Kubernetes: made, sent, followed, and put into words."""
