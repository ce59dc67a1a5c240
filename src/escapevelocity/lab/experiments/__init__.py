"""The lab's experiments, a file each: settings that run and give findings. `ev lab` runs, prints and draws them."""
