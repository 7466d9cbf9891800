"""LLaVA-Video: the model class that transformers lacks, its adapter, and checkpoints in its authors' layout."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
