"""Layouts that pictures and editing pairs come in: one module each, which reads it and, where others do, writes it.

`open_x(config)` gives numbered records (`data_recipes.runner.inputs`), in the order of their names; what cannot be
read comes as `Rejected` of the step "read". `python -m data_recipes.formats` turns one layout into another.
"""
