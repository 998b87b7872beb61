"""What the tests stand on: servers, samples, models of what must happen. No tests."""
