"""`python -m data_recipes.advancededit --config advancededit source.path=photos --out pairs`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("advancededit")
