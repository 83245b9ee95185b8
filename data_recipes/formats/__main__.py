"""`python -m data_recipes.formats`: pairs from one layout into another."""

from data_recipes.formats.cli import main

main()
