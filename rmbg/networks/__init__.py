"""Network definitions: tensors in, tensors out."""
