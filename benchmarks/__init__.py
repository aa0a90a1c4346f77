"""Measure pawprint, alone and beside others. Run each from the project's root; `--help` says more.

    python -m benchmarks.gather    downloads, beside a single client and a plain thread pool
    python -m benchmarks.verify    decoding and resizing, beside fastai's
    python -m benchmarks.train     fine-tuning, beside fastai's; or ours alone on many pictures
    python -m benchmarks.chain     `dvc repro` on photos, and after another learning rate
    python -m benchmarks.segmentation    a class for every pixel, beside fastai's unet_learner
    python -m benchmarks.recipe    recipes of fine-tuning, by their errors on folders of photos
    python -m benchmarks.clean     what clean does with label errors, on photos with changed labels
    python -m benchmarks.predict   answers of the exported model, beside fastai's
    python -m benchmarks.serve     `pawprint serve` under load
    python -m benchmarks.none_of_these    scores that tell pictures of something else apart
    python -m benchmarks.suggest    labels that `pawprint suggest` chooses, beside labels by chance
    python -m benchmarks.review    the page of `pawprint review` with 100,000 pictures
    python -m benchmarks.scale     every stage and DVC itself on 25,000 pictures
    python -m benchmarks.growth    how near duplicates and the stages grow with the pictures
    python -m benchmarks.dvc_files    DVC itself on 100,000 small files, with each kind of link
    python -m benchmarks.busy      one training on quiet cores and beside a busy process

The other modules are parts of these: `project` (a copy of the project to run stages in), `clock`
(seconds and memory), `results` (rows that are kept), and `fastai_train`, `fastai_segmentation`,
`fastai_predict` and `ours_train`, which run in processes of their own. fastai is needed by verify,
train, segmentation and predict, and by nothing else in the project.
Seconds differ from machine to machine; only ratios measured in one run can be compared.
"""

import pawprint  # noqa: F401  before torch is imported, as the stages do
