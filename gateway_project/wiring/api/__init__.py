"""The API for programs, under /api/: it translates between HTTP and selectors, services and the pipeline."""
