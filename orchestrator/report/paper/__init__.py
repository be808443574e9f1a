"""Tables 1 to 6 of the paper that this project examines, with a sweep's numbers beside its own."""
