"""The front end: what was typed, what is wrong with it, and what it means. Nothing here imports torch."""
