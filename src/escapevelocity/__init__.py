"""escapevelocity: find out why policy optimisation stalls or collapses, and get it out."""

__version__ = "0.1.0"
