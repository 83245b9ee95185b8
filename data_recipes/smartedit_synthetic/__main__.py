"""`python -m data_recipes.smartedit_synthetic --config smartedit_synthetic --out pairs/`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("smartedit_synthetic")
