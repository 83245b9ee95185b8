"""`python -m data_recipes`."""

from data_recipes.runner.cli import main

main()
