"""Parts of `scripts/fuzz.py`: valid files, ways to break them, what reads them, and the process that does so."""
