"""The tiny model folder of `tests/pipeline`, for the command line."""

from tests.pipeline.conftest import tiny_folder, tiny_pipeline, tiny_runs

__all__ = ["tiny_folder", "tiny_pipeline", "tiny_runs"]
