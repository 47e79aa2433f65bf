#!/usr/bin/env python
"""Train the embedded model from nothing: draw pictures, train both stages, write the folder.

The defaults are the recipe of the committed weights. Every stage keeps a checkpoint in the work
folder; `--resume` goes on from it.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from landscapes import autoencoder, denoiser, folder, pictures, preview, vocabulary
from landscapes.captions import prompt
from landscapes.world import Scene
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
EMBEDDED = ROOT / "deployments" / "diffusion" / "embedded"


def main() -> None:
    """Run all stages that the work folder does not already hold."""
    options = _options()
    if not options.resume:
        shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    began = time.monotonic()

    # 1. Draw.
    drawn = pictures.training_set(options.work, options.pictures, options.seed)
    print(f"{len(drawn.scenes)} pictures", flush=True)

    # 2. Three stages; the decoder is trained again on what the denoiser really leaves.
    vae, latents, seen = _train_autoencoder(options, drawn)
    training = _train_denoiser(options, vae, latents, seen.scenes)
    _polish(options, vae, training, latents, seen)
    _save(options, vae, training)
    preview.fit(vae, seen, options.out)
    print(f"finished after {(time.monotonic() - began) / 60:.1f} minutes", flush=True)


def _train_autoencoder(
    options: argparse.Namespace, drawn: pictures.PictureSet
) -> tuple[AutoencoderTiny, NDArray[np.float16], pictures.PictureSet]:
    """The autoencoder, latents of unit variance, and the pictures that they stand for."""
    vae = autoencoder.train(
        drawn,
        work=options.work,
        steps=options.autoencoder_steps,
        seed=options.seed,
        device=options.device,
        compiled=options.compile,
    )
    _check(options, vae)
    drawn = drawn.first(options.denoiser_pictures)
    name = f"latents-{options.autoencoder_steps}-{options.denoiser_pictures}.npy"
    latents = autoencoder.encode(vae, drawn, options.work / name)
    scale = 1 / float(latents.astype("float32").std())
    vae.register_to_config(scaling_factor=scale)
    return vae, (latents * scale).astype("float16"), drawn


def _check(options: argparse.Namespace, vae: AutoencoderTiny) -> None:
    """The autoencoder must be faithful before anything is built on it."""
    fidelity = autoencoder.fidelity(vae, pictures.held_out_set(48, options.seed))
    print(
        f"held-out pictures: {fidelity.psnr_db:.2f} dB, "
        f"colours kept in {fidelity.colours_kept:.3f} of them",
        flush=True,
    )
    if not fidelity.good_enough and not options.accept_any_autoencoder:
        raise SystemExit(
            f"the autoencoder is not faithful enough ({autoencoder.MINIMUM_PSNR_DB} dB and "
            f"{autoencoder.MINIMUM_COLOURS_KEPT} are needed): raise --autoencoder-steps"
        )


def _train_denoiser(
    options: argparse.Namespace,
    vae: AutoencoderTiny,
    latents: NDArray[np.float16],
    scenes: list[Scene],
) -> denoiser.Training:
    """Text encoder and UNet; a folder that can be used is written every now and then."""
    training = denoiser.Training(
        vocabulary.build(),
        work=options.work,
        steps=options.denoiser_steps,
        seed=options.seed,
        device=options.device,
        compiled=options.compile,
    )
    while training.step < options.denoiser_steps:
        training.run_until(training.step + options.export_every, latents, scenes)
        _save(options, vae, training)
    return training


def _polish(
    options: argparse.Namespace,
    vae: AutoencoderTiny,
    training: denoiser.Training,
    latents: NDArray[np.float16],
    seen: pictures.PictureSet,
) -> None:
    """Train the decoder alone, on latents that the denoiser has repaired."""

    def repaired(chosen: NDArray[np.int64], rng: np.random.Generator) -> torch.Tensor:
        said = [prompt(seen.scenes[index]) for index in chosen]
        known = torch.from_numpy(latents[chosen]).float()
        return training.repaired(known, said, rng) / float(vae.config.scaling_factor)

    autoencoder.polish(
        vae, seen, repaired, work=options.work, steps=options.decoder_steps, seed=options.seed
    )
    _check(options, vae)


def _save(options: argparse.Namespace, vae: AutoencoderTiny, training: denoiser.Training) -> None:
    size = folder.save(
        options.out, tokenizer=training.tokenizer, denoiser=training.average, autoencoder=vae
    )
    print(f"{options.out} written at step {training.step}: {size / 1e6:.1f} MB", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=EMBEDDED, help="where the model goes")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "landscapes")
    parser.add_argument("--device", type=_device, default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument(
        "--compile",
        action="store_true",
        help="torch.compile the training steps: minutes at the start, then 1.3 times as fast",
    )
    parser.add_argument("--resume", action="store_true", help="go on from the work folder")
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--denoiser-pictures", type=int, default=8_000, help="the first of them")
    parser.add_argument("--autoencoder-steps", type=int, default=11_000)
    parser.add_argument("--decoder-steps", type=int, default=1_000)
    parser.add_argument("--denoiser-steps", type=int, default=10_000)
    parser.add_argument("--export-every", type=int, default=500, help="denoiser steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--accept-any-autoencoder",
        action="store_true",
        help="do not stop after an unfaithful autoencoder (for trials of the script itself)",
    )
    return parser.parse_args()


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


if __name__ == "__main__":
    main()
