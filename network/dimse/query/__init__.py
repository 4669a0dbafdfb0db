"""The query service (PS3.4 annex C) without a database: questions are read, typed and matched, answers encoded."""
