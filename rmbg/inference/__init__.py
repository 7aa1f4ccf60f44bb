"""Execution of networks on this machine: model data, weights, device choice, runners and the cache of loaded models."""
