"""`python -m data_recipes.mige_replacement --config mige_replacement --out pairs/`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("mige_replacement")
