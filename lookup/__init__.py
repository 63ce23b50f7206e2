"""Where a user's database is, for the application to ask: app, endpoint, watch, databases, answer, settings."""
