"""`python -m imgflow ...`: the command line where no script is installed."""

from imgflow.cli import main

if __name__ == "__main__":
    main()
