"""Language models: one protocol, several backends."""
