"""Video readers, one file each, by name in `vidcompress.media.video.backends`. Importing this registers them all."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
