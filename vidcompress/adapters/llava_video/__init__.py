"""LLaVA-Video: its class, which transformers lacks, its adapter, and checkpoints in the layout of its authors."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
