"""Network definitions: pure functions on tensors, without I/O."""
