"""The runtime: partition owners, the log and store ports with their adapters, activities, assignment."""
