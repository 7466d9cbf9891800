"""Packed encoders, which take patches of pictures of any size side by side and attend within each picture."""

from vidcompress.adapters.packed.adapter import PackedAdapter
from vidcompress.adapters.packed.probe import PackedProbe

__all__ = ["PackedAdapter", "PackedProbe"]
