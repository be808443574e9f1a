"""The probes: what is measured inside a network while it trains."""
