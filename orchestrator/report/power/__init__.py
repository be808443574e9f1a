"""How many seeds would show a difference between two norms of a sweep, and what they would cost.

`normsweep plan FILE --power DB`. The variances are those of trials that the store holds: of the
sweep's own, or of the nearest to them.
"""
