"""Questions about images and videos: load a model, ask one question or many."""

from __future__ import annotations

from vidcompress.qa.answer import Answer
from vidcompress.qa.chat import Chat
from vidcompress.qa.compare.result import Comparison
from vidcompress.qa.visual_qa import VisualQA

__all__ = ["Answer", "Chat", "Comparison", "VisualQA"]
