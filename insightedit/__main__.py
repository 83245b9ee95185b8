"""`python -m insightedit edit photo.png "replace the left dog with a fox" -o out.png`: the command line."""

from insightedit.cli.main import main

if __name__ == "__main__":
    main()
