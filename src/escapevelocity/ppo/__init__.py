"""Proximal policy optimisation as a deterministic, resumable job with the health of its representation measured."""
