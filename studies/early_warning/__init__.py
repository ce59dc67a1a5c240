"""How early, and how surely, do the signs of `escapevelocity.health` warn of a collapse? See README.md."""
