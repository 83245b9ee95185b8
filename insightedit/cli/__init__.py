"""The command line `insightedit`; `main` is its entry point."""

from insightedit.cli.main import app, main

__all__ = ["app", "main"]
