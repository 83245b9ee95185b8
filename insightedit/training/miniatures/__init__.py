"""Training of the miniature base models: `python -m insightedit.miniatures`."""
