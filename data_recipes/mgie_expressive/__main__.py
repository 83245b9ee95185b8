"""`python -m data_recipes.mgie_expressive --config mgie_expressive --out pairs/`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("mgie_expressive")
