"""What runs networks on this machine: their data, their weights, devices, and the owner of loaded models."""
