"""A head -> an ONNX graph that computes the same, proved so: embeddings (n, dim) in, probabilities and labels out."""
