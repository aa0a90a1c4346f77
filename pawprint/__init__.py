"""What people run by hand around the pipeline; `pawprint --help` lists it."""
