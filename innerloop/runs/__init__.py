"""A run (system, config, data, plan, seed): as a dataclass, as JSON, as a folder, and as one file."""
