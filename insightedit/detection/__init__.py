"""Grounding DINO and SAM: where in a picture a phrase is, and which pixels belong to it."""
