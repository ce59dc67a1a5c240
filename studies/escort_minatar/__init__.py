"""Does the escort head help deep agents? Softmax against escort on four MinAtar games. See README.md."""
