"""Loopback servers that replace remote services in tests; they use real sockets."""
