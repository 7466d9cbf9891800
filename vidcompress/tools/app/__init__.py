"""App: a page in the browser that asks, compares and shows what was kept; needs gradio (extra `app`)."""
