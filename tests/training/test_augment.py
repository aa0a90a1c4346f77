"""Random views: each change is the expected one, and all of them cost one interpolation."""

import math

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pawprint.pictures.batches import load_picture
from pawprint.training.augment import augment, geometry, lighting
from pawprint.training.recipe import AugmentParams
from tests.support.recipe import STILL

CORNERS = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])


def params(**changes: float) -> AugmentParams:
    return AugmentParams.model_validate({**STILL, **changes})


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def corners(maps: torch.Tensor) -> torch.Tensor:
    """Return where the corners of the views lie in the picture, (n, 4, 2)."""
    reached = CORNERS @ maps.transpose(1, 2)
    return reached[..., :2] / reached[..., 2:]


def ramp(size: int) -> torch.Tensor:
    """Draw a picture whose red grows from left to right and green from top to bottom, by one."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack((x, y, torch.zeros_like(x)), dim=-1).to(torch.uint8)[None]


def test_without_changes_the_smaller_view_is_the_whole_picture_scaled():
    pictures = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    views = augment(pictures, 32, params(), generator())
    expected = F.interpolate(pictures.permute(0, 3, 1, 2) / 255, size=32, mode="bilinear").permute(
        0, 2, 3, 1
    )
    assert torch.allclose(views, expected, atol=1e-4)


def test_a_rotation_keeps_the_centre_and_turns_by_at_most_the_angle():
    maps = geometry(2000, params(rotate=30), generator())
    assert torch.equal(maps[:, :, 2], torch.tensor([0.0, 0, 1]).expand(2000, 3))
    assert torch.allclose(torch.linalg.det(maps), torch.ones(2000), atol=1e-5)
    angles = torch.atan2(maps[:, 1, 0], maps[:, 0, 0]) * 180 / math.pi
    assert 29 < angles.abs().max() <= 30.001
    assert (angles == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert angles.mean() == pytest.approx(0, abs=1)


def test_a_zoom_enlarges_three_views_in_four_and_shows_no_border():
    maps = geometry(2000, params(zoom=1.5), generator())
    factor = 1 / maps[:, 0, 0]
    assert torch.allclose(maps[:, 0, 0], maps[:, 1, 1])
    assert 1.49 < factor.max() <= 1.5001
    assert (factor == 1).float().mean() == pytest.approx(0.25, abs=0.03)
    assert corners(maps).abs().max() <= 1 + 1e-5


def test_a_warp_is_the_perspective_that_its_tilt_asks_for():
    """Points of the view divide by 1 + (tilt_x x + tilt_y y) / 2: lines and the centre stay."""
    maps = geometry(2000, params(warp=0.4), generator())
    tilt = maps[:, 2, :2] * 2
    assert torch.equal(maps[:, :2], torch.eye(3)[:2].expand(2000, 2, 3))
    assert 0.39 < tilt.abs().max() <= 0.4
    assert (tilt == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    expected = CORNERS[:, :2] / (1 + (CORNERS[:, :2] * tilt[:, None]).sum(dim=-1, keepdim=True) / 2)
    assert torch.allclose(corners(maps), expected, atol=1e-5)


def test_the_pixels_of_a_warp_lie_where_its_map_says():
    picture, changes = ramp(128), params(warp=0.3, rotate=15, min_scale=0.5, flip=0.5)
    maps = geometry(1, changes, generator(3))
    view = augment(picture, 64, changes, generator(3))[0] * 255
    for x, y in ((32, 32), (20, 40), (45, 25)):
        point = maps[0] @ torch.tensor([(2 * x + 1) / 64 - 1, (2 * y + 1) / 64 - 1, 1.0])
        pixel = ((point[:2] / point[2] + 1) * 128 - 1) / 2
        assert torch.allclose(view[y, x, :2], pixel, atol=0.05), (x, y)


def test_all_changes_together_are_one_interpolation(monkeypatch):
    calls = []
    real = F.grid_sample
    monkeypatch.setattr(
        F, "grid_sample", lambda *args, **options: calls.append(1) or real(*args, **options)
    )
    changes = params(mult=1.5, min_scale=0.5, flip=0.5, rotate=10, zoom=1.1, warp=0.2, lighting=0.2)
    views = augment(
        torch.randint(0, 256, (5, 48, 48, 3), dtype=torch.uint8), 32, changes, generator()
    )
    assert calls == [1]
    assert views.shape == (5, 32, 32, 3)
    assert 0 <= views.min() <= views.max() <= 1


def test_mult_scales_rotation_warp_and_lighting_and_nothing_else():
    changes = {
        "min_scale": 0.5,
        "flip": 0.5,
        "rotate": 10,
        "zoom": 1.1,
        "warp": 0.2,
        "lighting": 0.2,
    }
    doubled = {**changes, "rotate": 20, "warp": 0.4, "lighting": 0.4}
    for draw in (geometry, lighting):
        once = draw(50, params(**changes, mult=2), generator())
        twice = draw(50, params(**doubled), generator())
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(once, twice, strict=True))


def test_lighting_changes_contrast_about_grey_and_brightness_of_three_views_in_four():
    gain, shift = lighting(2000, params(lighting=0.3), generator())
    assert 0.29 < (gain - 1).abs().max() <= 0.3
    assert 0.14 < shift.abs().max() <= 0.15
    assert ((gain == 1) & (shift == 0)).float().mean() == pytest.approx(0.25, abs=0.03)
    grey = torch.full((1, 8, 8, 3), 128, dtype=torch.uint8)
    view = augment(grey, 8, params(lighting=0.3), generator(1))
    assert torch.allclose(view, view[0, 0, 0, 0].expand_as(view))


def test_views_differ_between_pictures_and_epochs_and_are_the_same_for_a_seed():
    picture = torch.randint(0, 256, (1, 48, 48, 3), dtype=torch.uint8).expand(2, -1, -1, -1)
    changes, source = params(min_scale=0.5, flip=0.5, rotate=10), generator()
    first, second = augment(picture, 32, changes, source), augment(picture, 32, changes, source)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert torch.equal(first, augment(picture, 32, changes, generator()))


@pytest.mark.parametrize(
    ("resize", "left", "top"),
    [("crop", "grey", "grey"), ("squish", "red", "grey"), ("pad", "red", "black")],
)
def test_a_wide_picture_becomes_square_as_asked(tmp_path, resize, left, top):
    """Red on its left and right ends, grey in the middle."""
    colours = {"grey": (128, 128, 128), "red": (255, 0, 0), "black": (0, 0, 0)}
    image = Image.new("RGB", (300, 100), colours["red"])
    image.paste(colours["grey"], (90, 0, 210, 100))
    image.save(tmp_path / "wide.png")
    square = load_picture(tmp_path / "wide.png", 60, resize, "bilinear")
    assert square.shape == (60, 60, 3)
    assert tuple(square[30, 1]) == colours[left]
    assert tuple(square[1, 30]) == colours[top]


@pytest.mark.parametrize("changes", [{"warp": 0.5, "mult": 2}, {"lighting": 0.4, "mult": 3}])
def test_a_mult_that_turns_views_inside_out_is_refused(changes):
    with pytest.raises(ValueError, match="below 1 when multiplied by mult"):
        params(**changes)


def test_without_augmentation_a_view_is_the_picture():
    pictures = torch.randint(0, 256, (3, 48, 48, 3), dtype=torch.uint8)
    views = augment(pictures, 48, params(), generator())
    assert torch.allclose(views, pictures.float() / 255, atol=1e-4)


def test_a_flip_is_a_mirror():
    pictures = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    views = augment(pictures, 32, params(flip=1), generator())
    assert torch.allclose(views, pictures.flip(2).float() / 255, atol=1e-4)


def test_crops_stay_inside_the_picture_and_keep_their_share():
    maps = geometry(500, params(min_scale=0.3), generator())
    assert corners(maps).abs().max() <= 1 + 1e-5
    area = maps[:, 0, 0].abs() * maps[:, 1, 1].abs()
    assert 0.25 < area.min() < 0.4
    assert area.max() > 0.9
