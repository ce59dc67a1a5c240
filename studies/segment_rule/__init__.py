"""Does it change what is learned that our runs are cut into segments with fresh environments? See README.md."""
