"""Training: the recipe, the model, the loop, the learning rate, and where the arithmetic runs."""
