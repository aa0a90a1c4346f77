"""Which weights between two become the model: the ones that err least on valid."""

import pytest
import torch

from pawprint.training.blend import BLENDS, blend, choose_blend, copy_weights


def line() -> tuple[torch.nn.Linear, dict[str, torch.Tensor]]:
    """Return a model at the end of a way, and the weights at its start: all 1, and all 3."""
    model = torch.nn.Linear(2, 2)
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 3)
    return model, {name: torch.ones_like(value) for name, value in model.state_dict().items()}


def choose(figures: dict[float, tuple[float, float]], known: tuple[float, ...] = ()) -> list[float]:
    """Choose among shares of (error_rate, valid_loss); return the chosen and those measured."""
    model, start = line()
    rows = {
        share: {"error_rate": error, "valid_loss": loss, "epoch": 1}
        for share, (error, loss) in figures.items()
    }
    asked = []

    def measure() -> dict[str, float]:
        share = (model.weight[0, 0].item() - 1) / 2
        asked.append(share)
        return rows[share]

    found = choose_blend(
        model, start, tuple(figures), {share: rows[share] for share in known}, measure
    )
    assert (found["error_rate"], found["valid_loss"]) == figures[found["blend"]]
    assert model.bias.tolist() == [1 + 2 * found["blend"]] * 2
    return [found["blend"], *asked]


@pytest.mark.parametrize("best", BLENDS)
def test_the_blend_that_errs_least_is_taken(best):
    figures = {share: (0.1 if share == best else 0.2, 1.0) for share in BLENDS}
    assert choose(figures) == [best, 0.5, 0.25, 0.75, 0.0, 1.0]


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ({share: (0.1, 1 - share) for share in BLENDS}, 0.5),  # a lower loss is not looked at
        ({0.0: (0.1, 1), 0.25: (0.2, 1), 0.5: (0.2, 1), 0.75: (0.1, 2), 1.0: (0.1, 1)}, 0.75),
        ({0.25: (0.1, 2), 0.5: (0.2, 1), 0.75: (0.1, 1)}, 0.75),  # as near: the lower loss
        ({0.75: (0.1, 1), 0.25: (0.1, 1)}, 0.25),
    ],
)
def test_of_blends_that_err_alike_the_middle_one_is_taken(figures, best):
    assert choose(figures)[0] == best


def test_what_has_been_measured_is_not_measured_again():
    figures = {share: (abs(share - 0.25), 1.0) for share in BLENDS}
    assert choose(figures, known=(0.0, 1.0)) == [0.25, 0.5, 0.25, 0.75]
    assert choose({1.0: (0.5, 1.0)}, known=(1.0,)) == [1.0]


def test_what_cannot_be_better_is_not_measured():
    figures = {share: (0.0, 1.0) for share in BLENDS}
    assert choose(figures) == [0.5, 0.5]
    assert choose({**figures, 0.5: (0.1, 1.0)}) == [0.25, 0.5, 0.25, 0.75]


def test_the_ends_of_the_way_are_the_same_bits():
    model, start = line()
    torch.manual_seed(0)
    start = {name: torch.randn_like(value) / 3 for name, value in start.items()}
    start["bias"][0] = -0.0
    end = copy_weights(model)
    for share, expected in ((0, start), (1, end)):
        blend(model, start, end, share)
        for name, value in model.state_dict().items():
            assert value.numpy().tobytes() == expected[name].numpy().tobytes()
