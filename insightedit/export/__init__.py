"""Model folders: written, described, pushed, and made of published checkpoints."""
