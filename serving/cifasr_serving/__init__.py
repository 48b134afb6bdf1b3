"""A gRPC server around the recogniser, and its client."""
