"""What a model must beat: the most frequent class, pixel similarity, a linear head.

Reads data/split.csv and data/images. Writes metrics/baseline.json (errors on the valid split) and
models/linear.safetensors, so that evaluate can ask all of them about the test split beside the
models. How the baselines work: pawprint/judging/baselines.py.
"""

from pawprint.judging.baselines import BaselineParams, fit_linear_head, pixel_answers
from pawprint.judging.errors import BASELINES, error_of
from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_table, write_json
from pawprint.training.device import ComputeParams, start
from pawprint.training.inference import predict_probabilities
from pawprint.training.model import create_model, save_model
from pawprint.training.recipe import TrainParams
from pawprint.watch import Watch


def main() -> None:
    params = load_params("baseline", BaselineParams)
    recipe = load_params("train", TrainParams)
    watch = Watch(recipe.weights)
    device = start(load_params("compute", ComputeParams), recipe.seed)
    table = read_table("data/split.csv")
    train, valid = (table[table["split"] == split] for split in ("train", "valid"))
    paths = valid["path"].tolist()

    # the linear head
    model, config = create_model(recipe, sorted(table["label"].unique()))
    fit_linear_head(model, config, train, device)
    save_model("models/linear.safetensors", model, config)
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    best = predict_probabilities(model, pictures, config, device).argmax(dim=1).tolist()

    # what each answers about valid
    answers = {
        "majority": [train["label"].mode()[0]] * len(valid),
        **pixel_answers(train, paths, params.size),
        "linear": [config.classes[i] for i in best],
    }
    label = valid["label"].to_numpy()
    errors = {name: error_of(answers[name] != label) for name in BASELINES}
    write_json("metrics/baseline.json", {"valid": errors})
    watch.refuse_changes()


if __name__ == "__main__":
    run_stage(main)
