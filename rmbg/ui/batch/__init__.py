"""Batches of visitors: uploads as input, a folder of the visit as output, runs in the background."""
