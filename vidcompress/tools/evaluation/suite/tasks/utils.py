"""Functions that the task files of this folder name; lmms-eval imports this module from beside them."""

from vidcompress.tools.evaluation.suite.lmms import doc_to_text, doc_to_visual, docs, process_results

__all__ = ["doc_to_text", "doc_to_visual", "docs", "process_results"]
