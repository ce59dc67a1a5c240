"""Hopper-v4 at the paper's full length: does PPO collapse, and does proximal feature optimisation prevent it?"""
