"""Pipelines as diffusers has them: load a model folder, edit pictures."""
