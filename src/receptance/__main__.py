"""`python -m receptance`: the command line, where the `receptance` command is not on the path."""

from receptance.cli import main

if __name__ == "__main__":
    main()
