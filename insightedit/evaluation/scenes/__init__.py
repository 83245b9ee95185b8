"""Scenes, a benchmark whose right answers are known exactly."""
