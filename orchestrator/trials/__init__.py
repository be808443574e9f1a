"""The trials of a store, one by one: what they are, said and differ in, and how to free room."""
