"""Where does collapse begin, over tasks, learning rates and epochs? See README.md."""
