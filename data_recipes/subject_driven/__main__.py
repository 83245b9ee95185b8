"""`python -m data_recipes.subject_driven --config subject_driven --out pairs/`."""

from data_recipes.runner.cli import main

if __name__ == "__main__":
    main("subject_driven")
