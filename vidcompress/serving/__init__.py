"""Serving by vLLM: its own models with visual tokens left out, as a plugin that is off unless a model asks for it.

`settings` reads what an engine compresses by, `budgets` gives each item's count before pixels are encoded, `choice`
selects. These three know no engine. `plugin` registers the models of `engine`, which alone import vllm.
"""
