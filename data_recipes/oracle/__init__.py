"""Backends that know the truth: they answer from the scene behind a picture, so that recipes can be tested."""
