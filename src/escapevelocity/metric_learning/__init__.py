"""Adaptive sampling with reward: a policy that chooses negatives for deep metric learning, and its gravity well."""
