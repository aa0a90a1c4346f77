"""Grad-CAM shows where the model looked."""

import numpy as np
import timm
import torch

from pawprint.judging.grad_cam import grad_cam, overlay
from pawprint.training.stored import ModelConfig


def test_grad_cam_finds_what_the_class_depends_on():
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=2).eval()
    config = ModelConfig(
        "test_efficientnet", ("a", "b"), 96, "squish", "bilinear", (0.5,) * 3, (0.5,) * 3
    )
    pictures = torch.randint(0, 255, (10, 96, 96, 3), dtype=torch.uint8)
    heat = grad_cam(model, pictures, [0, 1] * 5, config, torch.device("cpu"))
    assert heat.shape[0] == 10
    assert 0 <= heat.min() <= heat.max() <= 1
    assert np.array_equal(heat, grad_cam(model, pictures, [0, 1] * 5, config, torch.device("cpu")))
    assert overlay(pictures[0].numpy(), heat[0], 160).size == (160, 160)
