"""Numbers in, intervals and decisions out: pure functions on numpy and scipy, each with formula and source."""
