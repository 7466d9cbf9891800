"""Pixtral encoders: pictures of any size as pictures, whose patches attend within their picture."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
