"""One file for each derived objective: pure loss functions on top, the trainable objective below."""
