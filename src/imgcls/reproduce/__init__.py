"""The tables of papers run again, and compared: `task=reproduce` and `task=study`. Imports no torch."""
