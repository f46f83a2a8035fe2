"""Export and import of models: official checkpoints, single files, Hugging Face hub, torch.export, ONNX, cards."""
