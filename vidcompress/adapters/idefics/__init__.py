"""Idefics3 and its relatives: crops of a picture, each with its place written before it, and the whole picture last."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
