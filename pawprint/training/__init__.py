"""Training: the recipe, the model, the loop, the learning rate, and where the arithmetic runs."""

from pawprint.training.uncompiled import leave_out_compiler

leave_out_compiler()
