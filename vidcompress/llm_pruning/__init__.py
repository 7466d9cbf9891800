"""Pruning between decoder layers by hooks on a model's own layers: nothing is patched and no forward is copied."""

from __future__ import annotations
