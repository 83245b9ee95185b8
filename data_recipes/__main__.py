"""`python -m data_recipes`."""

from data_recipes.pipeline.cli import main

main()
