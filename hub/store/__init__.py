"""What the hub remembers: verbs in, rows out; SQLite embedded."""
