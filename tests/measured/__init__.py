"""Sentences of the documents that state measured figures, each recomputed from the result files "
"it speaks of."""
