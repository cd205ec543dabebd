"""Configuration: one file, the environment over it, and a message for each mistake."""
