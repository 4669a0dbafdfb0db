"""The figures for Prometheus: `catalog` says what each metric means, `collect` fills them."""
