"""Fine-tune a small transformer on the same reviews, if there are weights to start from.

Reads data/answers.csv. Writes metrics/transformer.json (accuracy on the test split beside the
baseline's, and whether they differ) and metrics/curve.csv (the loss of each step). The weights come
from `transformer.folder` or from the Hugging Face hub, as safetensors alone: no code of theirs is
run. If neither is given, metrics/transformer.json says so, and metrics/curve.csv is empty.
Source: Devlin et al., "BERT", arXiv:1810.04805; Sanh et al., "DistilBERT", arXiv:1910.01108.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from scipy.stats import binomtest
from tqdm import tqdm

from pawprint.judging.errors import wilson
from pawprint.params import Params, StageError, load_params, run_stage
from pawprint.tables import read_table, write_json, write_table
from pawprint.training.device import ComputeParams, start
from pawprint.training.schedule import one_cycle


class TransformerParams(Params):
    """The section `transformer` of params.yaml."""

    folder: str = Field(min_length=1)
    hub: str = Field(min_length=1)
    seed: int = Field(ge=0, lt=2**32)
    max_tokens: int = Field(ge=8, le=8192)
    epochs: int = Field(ge=1, le=100)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)


def main() -> None:
    params = load_params("transformer", TransformerParams)
    files = {path.name for path in Path(params.folder).glob("[!.]*")} - {"README.md"}
    model_name = params.folder if files else params.hub
    if model_name == "none":
        write_json("metrics/transformer.json", {"model": "none"})
        write_table("metrics/curve.csv", pd.DataFrame({"step": [], "loss": []}))
        return
    device = start(ComputeParams(device="auto", threads=0), params.seed)
    tokenizer, model = load_pretrained(model_name)
    model.to(device)

    # the reviews as tokens
    table = read_table("data/answers.csv")
    is_test = (table["is_valid"] == "True").to_numpy()
    texts = [text.replace("<br />", " ") for text in table["text"]]
    y = torch.tensor((table["label"] == "positive").to_numpy(np.int64))
    known, asked = (np.flatnonzero(side).tolist() for side in (~is_test, is_test))

    def logits_of(rows: list[int]) -> torch.Tensor:
        batch = [texts[i] for i in rows]
        tokens = tokenizer(
            batch, truncation=True, max_length=params.max_tokens, padding=True, return_tensors="pt"
        )
        return model(**tokens.to(device)).logits

    # train
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=params.weight_decay)
    generator = torch.Generator().manual_seed(params.seed)
    steps = params.epochs * -(-len(known) // params.batch_size)
    losses: list[float] = []
    model.train()
    with tqdm(total=steps, desc="transformer", unit="step", delay=1) as bar:
        for _ in range(params.epochs):
            order = torch.randperm(len(known), generator=generator)
            for batch in order.split(params.batch_size):
                # the learning rate of this step
                factor, _ = one_cycle(len(losses) / steps, pct_start=0.1, div=25.0)
                for group in optimizer.param_groups:
                    group["lr"] = params.lr * factor
                # forward, backward, update
                rows = [known[i] for i in batch.tolist()]
                loss = torch.nn.functional.cross_entropy(logits_of(rows), y[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
                bar.update()
    if not np.isfinite(losses).all():
        raise StageError("the loss is not a number: lower transformer.lr")

    # the test split, beside the baseline on the same reviews
    model.eval()
    with torch.no_grad():
        batches = [
            asked[i : i + params.batch_size] for i in range(0, len(asked), params.batch_size)
        ]
        said = torch.cat([logits_of(rows).argmax(dim=1).cpu() for rows in batches])
    right = (said == y[asked]).numpy()
    of_baseline = table["p_positive"][is_test].astype(float).to_numpy() > 0.5
    baseline_right = of_baseline == (y[asked] == 1).numpy()
    won, lost = int((right & ~baseline_right).sum()), int((~right & baseline_right).sum())
    low, high = wilson(int(right.sum()), len(right))
    figures = {
        "model": model_name,
        "reviews": len(right),
        "test": {"accuracy": float(right.mean()), "low": low, "high": high},
        "p_differs_from_tfidf": float(binomtest(won, won + lost).pvalue) if won + lost else 1.0,
    }
    write_json("metrics/transformer.json", figures)
    write_table(
        "metrics/curve.csv", pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
    )


def load_pretrained(name: str) -> tuple[Any, Any]:
    """Return the tokenizer and the model with a new head for two labels.

    Raises StageError if transformers is not installed, or if there are no weights.
    """
    try:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging
    except ImportError as error:
        raise StageError(f"{error}: run `pip install transformers`") from None
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model = AutoModelForSequenceClassification.from_pretrained(
            name, num_labels=2, use_safetensors=True, ignore_mismatched_sizes=True
        )
    except Exception as error:  # the hub's client, safetensors and transformers raise many kinds
        reason = " ".join(str(error).split())[:200]
        raise StageError(
            f"no transformer can be loaded from {name!r} ({reason}); put config.json, "
            "model.safetensors and the tokenizer's files into transformer.folder, correct "
            "transformer.hub, or set it to none"
        ) from None
    return tokenizer, model


if __name__ == "__main__":
    run_stage(main)
