"""Pictures: opened, checked and brought to upright RGB."""
