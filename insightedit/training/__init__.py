"""Training: one loop, three objectives, two engines."""
