"""The report of a sweep: what the store knows as frames, then tables, figures and one page."""
