"""`python -m data_recipes.scenes`."""

from data_recipes.scenes.cli import app

app(prog_name="python -m data_recipes.scenes")
