"""Pages: each module is a view and its read-only queries."""
