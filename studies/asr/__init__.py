"""Adaptive sampling with reward: what our own runs showed."""
