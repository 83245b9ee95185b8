"""Recipes that make training data."""
