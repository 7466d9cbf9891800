"""Gemma: pictures whose tokens attend to each other both ways, in decoders with a sliding window."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
