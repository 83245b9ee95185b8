"""`python -m data_recipes.formats`: pairs from one layout into another."""

from data_recipes.formats.cli import app

app(prog_name="python -m data_recipes.formats")
