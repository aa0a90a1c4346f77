"""Look at every picture once with the frozen body, for all stages that need no more than that.

Reads data/images.csv and data/images. Writes models/body.safetensors, the pretrained model without
its head, as every training starts from it, and data/features.safetensors, what it sees in every
picture and in its mirror image. What is in that file: pawprint/training/features.py.

Only here are pretrained weights found or fetched. Without them (`train.pretrained: false`) the body
is random, and the same for every `train.seed`.
"""

import math
from collections.abc import Iterator
from functools import partial

from torch import nn
from tqdm import tqdm

from pawprint.compute.choice import open_engine
from pawprint.compute.engine import Engine
from pawprint.params import load_params, run_stage
from pawprint.pictures.batches import load_pictures
from pawprint.tables import read_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.features import IMAGES, KINDS, Rows, hash_rows, write_features
from pawprint.training.inference import describe_pictures
from pawprint.training.model import create_model, save_body
from pawprint.training.recipe import BodyParams
from pawprint.training.stored import BODY, ModelConfig, hash_body
from pawprint.watch import Watch

CHUNK = 512  # pictures in memory at a time
FEW = 64  # of them, if they travel to a worker; both are multiples of what a CPU takes at a time


def main() -> None:
    params = load_params("train", BodyParams)
    watch = Watch(params.weights)
    compute = load_params("compute", ComputeParams)
    engine = open_engine(compute)
    start(compute, seed=0)
    paths = read_table(IMAGES)["path"].tolist()

    # the body
    model, config = create_model(params, ["any"])
    save_body(BODY, model, config)

    # what it sees
    about = {
        "arch": params.arch,
        "body": hash_body(),
        "resize": params.resize,
        "rows": hash_rows(paths),
        "size": str(params.size),
    }
    write_features(len(paths), look_at_all(engine, model, config, paths, compute), about)
    watch.refuse_changes()


def look_at_all(
    engine: Engine, model: nn.Module, config: ModelConfig, paths: list[str], compute: ComputeParams
) -> Iterator[Rows]:
    """Compute the rows of the pictures, a chunk of them at a time."""
    size = FEW if engine.is_remote else CHUNK
    chunks = (paths[first : first + size] for first in range(0, len(paths), size))
    found = engine.map(
        partial(look, model=model, config=config, compute=compute),
        chunks,
        pool="here",
        reads=lambda chunk: chunk,
        together=1,
        on_gpu=compute.device != "cpu",
    )
    return iter(tqdm(found, "features", math.ceil(len(paths) / size), unit="chunk"))


def look(paths: list[str], model: nn.Module, config: ModelConfig, compute: ComputeParams) -> Rows:
    """Compute the rows of some pictures."""
    device = start(compute, seed=0)
    pictures = load_pictures(paths, config.size, config.resize, config.interpolation)
    found = describe_pictures(model, pictures, config, device)
    return {kind: rows.numpy() for kind, rows in zip(KINDS, found, strict=True)}


if __name__ == "__main__":
    run_stage(main)
