"""Comparison of several providers on one photo: agreement, exports, blind votes and ratings."""
