"""`python -m data_recipes.advancededit --config configs/data/advancededit.yaml source.path=photos`."""

from data_recipes.pipeline.cli import main

if __name__ == "__main__":
    main("advancededit")
