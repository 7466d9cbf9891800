"""Parts of `scripts/make_pictures.py`."""
