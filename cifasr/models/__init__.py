"""The recogniser: configuration and model, checkpoint file, warm start, the model in the box."""
