"""Studies: results of real runs, kept as small tables, figures and a page of what was found."""
