"""Judges: language models that score edits, people who vote, and what is kept of their replies."""
