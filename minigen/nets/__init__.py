"""Networks, by mechanism."""
