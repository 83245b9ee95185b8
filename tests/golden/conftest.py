"""The importers' folders, for the goldens."""

from tests.importers.conftest import made

__all__ = ["made"]
