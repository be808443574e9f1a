"""Every night, what is new and nothing else: train it, judge it against a baseline, say so."""
