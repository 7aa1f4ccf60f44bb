"""Command line; `app` contains the table of commands."""
