"""Servers on this machine that stand in for the outside, over real sockets."""
