"""`python -m data_recipes.expressive`."""

from data_recipes.expressive.cli import main

main()
