"""A tiny genome, tiny models and assert helpers, for our tests and for plug-ins."""
