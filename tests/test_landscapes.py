"""The embedded model's world: drawings, words, the judge, and training from the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from landscapes import folder, vocabulary
from landscapes.captions import caption, prompt, words
from landscapes.judge import judge
from landscapes.painting import paint
from landscapes.pictures import held_out_set
from landscapes.world import (
    SAME_COLOUR,
    SIZE,
    Scene,
    all_scenes,
    held_out_scenes,
    training_scenes,
)

ROOT = Path(__file__).resolve().parent.parent
NIGHT = Scene("red", "house", "snowy", "night")


def test_the_world_is_split_once_and_for_all() -> None:
    scenes = all_scenes()
    assert len(scenes) == 8 * 8 * 4 * 3 - len(SAME_COLOUR) * 8 * 3
    assert len(held_out_scenes()) >= 40
    assert not set(held_out_scenes()) & set(training_scenes())
    assert held_out_scenes() == [scene for scene in scenes if scene.held_out]


def test_a_picture_depends_on_its_seed_alone() -> None:
    first, owner = paint(NIGHT, np.random.default_rng(7))
    again, _ = paint(NIGHT, np.random.default_rng(7))
    other, _ = paint(NIGHT, np.random.default_rng(8))
    assert first.shape == (SIZE, SIZE, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert (owner == 255).sum() > 1500, "the subject's coloured body is too small to be judged"


def test_edges_are_smooth() -> None:
    picture, owner = paint(Scene("white", "tower", "green", "day"), np.random.default_rng(0))
    smooth = 0
    for row in range(130, 170):  # the wall leans, so that most rows cut a pixel in two
        edge = int(np.flatnonzero(owner[row] > 0)[0])
        outside, inside = picture[row, edge - 4, 0], picture[row, edge + 4, 0]
        around = picture[row, edge - 2 : edge + 3, 0]
        smooth += bool(((around > outside + 8) & (around < inside - 8)).any())
    assert smooth >= 20


def test_captions_say_what_is_seen_in_many_ways() -> None:
    rng = np.random.default_rng(0)
    said = [caption(NIGHT, rng) for _ in range(2000)]
    assert len(set(said)) > 200
    assert 0.07 < said.count("") / len(said) < 0.13
    assert sum("red" in text.split() and "house" in text for text in said) > 1200
    assert sum(text.find("night") < text.find("house") for text in said if "night" in text) > 100
    assert prompt(NIGHT) == "a red house on snowy hills at night"


def test_the_tokenizer_knows_its_words_and_accepts_any_text(tmp_path: Path) -> None:
    tokenizer = vocabulary.build()
    assert all(len(tokenizer(word).input_ids) == 3 for word in words())
    strange = "Zürich 日本 \U0001f980 <tag> 42"
    assert tokenizer.unk_token_id not in tokenizer(strange).input_ids[1:-1]
    tokenizer.save_pretrained(tmp_path)
    loaded = type(tokenizer).from_pretrained(tmp_path)
    assert loaded(strange).input_ids == tokenizer(strange).input_ids


def test_the_judge_is_right_on_drawings() -> None:
    drawn = held_out_set(70, seed=3)
    wrong = [
        (scene, verdict)
        for scene, pixels in zip(drawn.scenes, drawn.pixels, strict=True)
        if (verdict := judge(pixels, scene.subject))
        and (verdict.time, verdict.ground, verdict.subject_colour)
        != (scene.time, scene.ground, scene.colour)
    ]
    assert len(wrong) <= 0.01 * len(drawn.scenes), wrong


TINY = {
    "--pictures": 48,
    "--denoiser-pictures": 32,
    "--autoencoder-steps": 4,
    "--decoder-steps": 2,
    "--denoiser-steps": 6,
    "--export-every": 3,
    "--device": "cpu",
}


@pytest.mark.slow
def test_training_survives_a_kill_and_writes_a_folder_that_loads(tmp_path: Path) -> None:
    out, work = tmp_path / "model", tmp_path / "work"
    command = [sys.executable, str(ROOT / "scripts" / "train_embedded.py"), f"--out={out}"]
    command += [f"--work={work}", "--accept-any-autoencoder"]
    command += [f"{name}={value}" for name, value in TINY.items()]

    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (work / "autoencoder.pt").exists():
        assert killed.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()

    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert "autoencoder: step" not in resumed.stdout, "the finished stage was trained again"
    assert "denoiser: step 6/6" in resumed.stdout

    index = json.loads((out / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    scheduler = json.loads((out / "scheduler" / "scheduler_config.json").read_text())
    assert scheduler["clip_sample"] is False
    pipeline = folder.load(out)
    pictures = folder.generate(pipeline, [prompt(NIGHT), ""], [0, 1], steps=2, guidance=3.0)
    assert pictures.shape == (2, SIZE, SIZE, 3)
