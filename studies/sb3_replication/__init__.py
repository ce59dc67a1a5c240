"""Is the collapse of PPO's representation found in Stable-Baselines3's own PPO, too? See README.md."""
