"""Side-by-side runs against peers; each script prints its table and writes it into `benchmarks/README.md`."""
