"""`python -m insightedit.foundation`; see `insightedit.foundation.cli`."""

from insightedit.foundation.cli import app

if __name__ == "__main__":
    app(prog_name="python -m insightedit.foundation")
