"""C-MOVE and C-GET as the SCP, apart from wire and database: requests, counters, responses (PS3.4 C.4.2, C.4.3)."""
