"""Figures and pages of the lab's experiments, a file each, drawn from nothing but settings and findings."""
