"""Studies: grids of runs on whatever machines there are, honest statistics, and the papers' figures."""
