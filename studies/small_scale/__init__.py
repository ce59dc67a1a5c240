"""Every figure of the papers regenerated at small scale, and what each says there. See README.md."""
