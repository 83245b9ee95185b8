"""`python -m insightedit.foundation`; see `insightedit.foundation.cli`."""

from insightedit.command_line import one_sentence_errors
from insightedit.foundation.cli import app

if __name__ == "__main__":
    with one_sentence_errors("the same command goes on from the last checkpoint."):
        app(prog_name="python -m insightedit.foundation")
