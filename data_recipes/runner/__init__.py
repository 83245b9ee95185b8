"""Runs a recipe: photos in, editing pairs out; resumable, on one machine or on a Ray cluster."""
