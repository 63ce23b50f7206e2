"""The proof: things are broken on purpose under load, and every accepted event is counted."""
