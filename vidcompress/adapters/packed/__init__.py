"""Packed encoders: those that take patches of pictures of any size side by side, each attending within its picture."""

from vidcompress.adapters.packed.adapter import PackedAdapter
from vidcompress.adapters.packed.probe import PackedProbe

__all__ = ["PackedAdapter", "PackedProbe"]
