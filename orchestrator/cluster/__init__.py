"""Sweeps as jobs on Kubernetes: building, submitting, following and describing them."""
