"""The exact scenes of `insightedit.scenes`, written as an editing data set: `python -m data_recipes.scenes`."""
