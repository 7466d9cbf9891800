"""`python -m vidcompress`: the command line."""

from vidcompress.cli import main

if __name__ == "__main__":
    main()
