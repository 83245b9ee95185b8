"""Metrics on pairs of pictures: each as its paper computes it, and as it should be computed."""
