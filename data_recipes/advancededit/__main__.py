"""`python -m data_recipes.advancededit --config advancededit source.path=photos --out pairs`."""

from data_recipes.pipeline.cli import main

if __name__ == "__main__":
    main("advancededit")
