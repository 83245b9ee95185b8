"""Settings: the schema, once, and how YAML files and the command line are merged into it."""

from __future__ import annotations

from insightedit.config.load import ConfigError, config_root, dump_config, list_overlays, list_recipes, load_config
from insightedit.config.schema import Config

__all__ = ["Config", "ConfigError", "config_root", "dump_config", "list_overlays", "list_recipes", "load_config"]
