"""The typed API over gRPC, on the real stack."""
