"""PostgreSQL and Redis of the tests' own: started from Debian's packages, on ports of their own, gone afterwards."""
