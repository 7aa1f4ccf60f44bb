"""The HTTP API of remove.bg, version 1.0."""
