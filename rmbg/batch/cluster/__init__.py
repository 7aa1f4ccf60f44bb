"""Batches on a Ray cluster. The driver owns manifest, keys and paid calls; the nodes read, process and write the photos."""
