"""`python -m insightedit.miniatures`; see `insightedit.training.miniatures.cli`."""

from insightedit.console import one_sentence_errors
from insightedit.training.miniatures.cli import app

if __name__ == "__main__":
    with one_sentence_errors("the same command goes on from the last checkpoint."):
        app(prog_name="python -m insightedit.miniatures")
