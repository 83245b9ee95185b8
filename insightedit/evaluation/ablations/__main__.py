"""`python -m insightedit.evaluation.ablations`."""

from insightedit.evaluation.ablations.cli import app

if __name__ == "__main__":
    app(prog_name="python -m insightedit.evaluation.ablations")
