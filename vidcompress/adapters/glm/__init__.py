"""GLM's vision-language models: packed encoders whose clips stand behind the placeholder of pictures."""

from vidcompress.registry import import_modules

import_modules(__name__, __path__)
