"""Claims: sentences that a sweep can bear out or contradict, with error rates that are kept.

`paper.yaml` has the paper's, a file of the same form a user's own. `reader` reads them,
`judging.claims` judges them by what a sweep's frame holds, `statistics` has a module for each kind
of test, and `show` and `answer` put the verdicts into words. docs/claims.md is the manual,
docs/decisions/0021 says why a claim of several parts is judged as it is.
"""
