"""Word and character errors, latency."""
