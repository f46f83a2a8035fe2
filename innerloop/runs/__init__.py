"""A run as a value, as JSON, and as a folder."""
