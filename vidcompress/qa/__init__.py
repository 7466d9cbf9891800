"""Questions about images and videos: load a model, ask one or many."""

from __future__ import annotations

from .answer import Answer
from .chat import Chat
from .comparison import Comparison
from .visual_qa import VisualQA

__all__ = ["Answer", "Chat", "Comparison", "VisualQA"]
