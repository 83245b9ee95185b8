"""The photos benchmark: whole-picture requests with exact answers, and requests that nobody should carry out."""
