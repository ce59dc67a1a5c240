"""A trained policy as plain arrays and a description that needs no JAX, and from these as ONNX."""
