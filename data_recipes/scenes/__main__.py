"""`python -m data_recipes.scenes`."""

from data_recipes.scenes.cli import main

main()
