"""Commands about clips that are longer than memory: `vidcompress remember` and `vidcompress watch`."""
