"""`python -m insightedit.training.default`; see `insightedit.training.default.cli`."""

from insightedit.console import one_sentence_errors
from insightedit.training.default.cli import main

if __name__ == "__main__":
    with one_sentence_errors("the same command goes on where it was."):
        raise SystemExit(main())
