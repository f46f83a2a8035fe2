"""Models in other forms: official checkpoints, single files, hubs, graphs, ONNX, cards."""
