"""`python -m data_recipes.mige_addition --config mige_addition --out pairs/`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("mige_addition")
