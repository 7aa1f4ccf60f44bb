"""Entry point of the Space and of ``make run``: builds the page and starts it."""

from rmbg.ui import launch

if __name__ == "__main__":
    launch()
