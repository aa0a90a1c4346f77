"""show_batch draws what is trained on; tta asks about several views of a picture."""

import json

import pandas as pd
import pytest
import torch
from PIL import Image

from pawprint.judging import tta
from pawprint.pictures.batches import load_pictures
from pawprint.training.inference import predict_probabilities
from pawprint.training.recipe import TrainParams
from pawprint.training.stored import ModelConfig
from tests.support.project import TRAIN, Project, make_pictures
from tests.support.recipe import STILL, recipe


def prepare(small: Project) -> None:
    for name in ("gather", "verify", "split"):
        small.stage(name)


def test_show_batch_draws_training_pictures_alone_and_the_same_twice(small: Project):
    prepare(small)
    table = pd.read_csv(small.path / "data/split.csv")
    for path in table.loc[table["split"] != "train", "path"]:
        (small.path / path).unlink()
    small.stage("show_batch")
    shown = (small.path / "metrics/show_batch.png").read_bytes()
    with Image.open(small.path / "metrics/show_batch.png") as image:
        assert image.size == (8 * 176, 5 * 196)
        reds = [
            image.crop((i * 176, 0, i * 176 + 176, 176)).resize((1, 1)).getpixel((0, 0))[0]
            for i in range(8)
        ]
    assert max(reds) - min(reds) > 30  # both classes are among the first eight
    small.stage("show_batch")
    assert (small.path / "metrics/show_batch.png").read_bytes() == shown
    small.edit(**{"train.augment.rotate": 90})
    small.stage("show_batch")
    assert (small.path / "metrics/show_batch.png").read_bytes() != shown


class Brightness(torch.nn.Module):
    """A model whose logit of the second class is the view's mean."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        mean = inputs.mean(dim=(1, 2, 3)) * 10
        return torch.stack((torch.zeros_like(mean), mean), dim=1)


@pytest.fixture
def asked(project: Project, monkeypatch) -> tuple[Brightness, ModelConfig, list[str]]:
    monkeypatch.chdir(project.path)
    make_pictures(project.path / "own", {"red": 20, "green": 20})
    config = ModelConfig("test", ("a", "b"), 64, "crop", "bilinear", (0.5,) * 3, (0.5,) * 3)
    return Brightness(), config, sorted(str(path) for path in (project.path / "own").rglob("*.jpg"))


def ask(
    model: torch.nn.Module, config: ModelConfig, paths: list[str], views: TrainParams | None = None
) -> torch.Tensor:
    """What the model answers about files, from views if it is told how to draw them."""
    return tta.answer(model, config, tta.load_questions(paths, config, views), torch.device("cpu"))


def test_tta_is_fastais_mean_of_four_views_and_a_quarter_of_the_picture(project: Project, asked):
    model, config, paths = asked
    cpu = torch.device("cpu")
    plain = predict_probabilities(model, load_pictures(paths, 64, "crop", "bilinear"), config, cpu)
    assert torch.equal(ask(model, config, paths), plain)

    views = recipe(train_size=48)
    mixed = ask(model, config, paths, views)
    assert torch.equal(ask(model, config, paths, views), mixed)
    assert not torch.equal(mixed, plain)
    assert torch.allclose(mixed.sum(dim=1), torch.ones(40))

    same = ask(model, config, paths, recipe(train_size=48, augment=STILL))
    # four times the picture itself: only scaling differs
    assert torch.allclose(same, plain, atol=0.01)


def test_tta_weighs_views_and_picture_as_fastai(project: Project, asked, monkeypatch):
    """torch.lerp(views, picture, 0.25): views that say 1 and a picture that says 0 make 0.75."""
    _, config, paths = asked
    said = iter(
        [torch.tensor([[0.0]]), *[torch.tensor([[value]]) for value in (0.4, 0.8, 1.2, 1.6)]]
    )
    monkeypatch.setattr(tta, "predict_probabilities", lambda *_: next(said))
    identity = torch.nn.Identity()
    answer = ask(identity, config, paths[:1], recipe(train_size=48))
    assert answer.item() == pytest.approx(0.75)
    assert list(said) == []


@pytest.mark.slow
def test_interpret_and_evaluate_honour_tta(small_seen: Project):
    small = small_seen
    for name in ("baseline", "lr_find", "lr"):
        small.stage(name)
    small.stage("train", *TRAIN)
    (small.path / "models/retrained.safetensors").write_bytes(
        (small.path / "models/first.safetensors").read_bytes()
    )
    (small.path / "data/cleaned.csv").write_bytes((small.path / "data/split.csv").read_bytes())
    answers = {}
    for tta_on in (False, True):
        small.edit(**{"evaluate.tta": tta_on})
        small.stage("interpret")
        small.stage("evaluate")
        answers[tta_on] = (small.path / "data/predictions.csv").read_bytes()
        report = json.loads((small.path / "metrics/evaluate.json").read_text())
        assert report["as_gathered"]["first"] == report["as_gathered"]["retrained"]
    assert answers[False] != answers[True]
    small.edit(**{"evaluate.tta": "yes"})
    for name in ("interpret", "evaluate"):
        assert "evaluate.tta is 'yes'" in small.failing_stage(name)
