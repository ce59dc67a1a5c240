"""The papers' figures, each with its claim, the runs it needs, its picture and what we measured: `ev reproduce`."""
