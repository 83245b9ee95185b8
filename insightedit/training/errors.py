"""The one error that a user of the stages can meet beside `ConfigError`."""

from __future__ import annotations

from insightedit.config.load import ConfigError


class StageError(ConfigError):
    """A run folder, a checkpoint or the order of stages forbids what was asked; the text says what to do."""
