"""Tasks: one verb a file, each a plain function of the configuration."""
