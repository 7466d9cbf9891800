"""vidcompress as a model of lmms-eval: `python -m lmms_eval eval --model vidcompress --model_args pretrained=...`."""
