"""The gRPC server: servicers, the run engine and the chat models."""
