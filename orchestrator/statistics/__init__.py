"""Numbers in, intervals and decisions out: pure functions, each with formula and source.

They import numpy, scipy and each other.
"""
