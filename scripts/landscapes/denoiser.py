"""Stage two: a text encoder and a UNet, trained together on the latents of the first stage."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from numpy.typing import NDArray
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from . import checkpoint
from .autoencoder import LATENT_CHANNELS
from .captions import PLAIN_SHARE, PLAIN_SHARE_AT_FIRST, caption
from .progress import Progress
from .vocabulary import MAX_LENGTH
from .world import Scene

TEXT_WIDTH = 128
BATCH = 32
PEAK_LEARNING_RATE = 1e-3
EMA_DECAY = 0.998
SAVE_EVERY = 200
PLAIN_PART = 0.6
"""The part of the run with mostly plain captions."""
NOISE_SKEW = 0.6
"""Below one: more noisy timesteps, in which colours are decided and few-step sampling lives."""
REPAIRED_SHARE = 0.3
"""The polish of the decoder repairs latents from timesteps below this share: the last few steps."""
SUBJECT_ROWS, SUBJECT_COLUMNS = slice(5, 14), slice(4, 12)
SUBJECT_WEIGHT = 4.0
"""The subject covers a fifth of the latents; unweighted, its colour is learned last."""


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained CLIP text model, small enough to run in two milliseconds."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_LENGTH,
        projection_dim=TEXT_WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_unet() -> UNet2DConditionModel:
    """An untrained UNet for 16x16 latents; words enter at 8x8 and 4x4, where that is cheap."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The sampler, and the noise schedule that every other sampler takes from its config.

    `beta_end` is 0.02, not the usual 0.012: at the last timestep 0.0156 of the picture is left
    instead of 0.068, so the model cannot read the time of day from the noise that it starts from.
    """
    return DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.02,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        algorithm_type="dpmsolver++",
        solver_order=2,
    )


class Denoiser(nn.Module):
    """The two networks that are trained together."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder
        self.unet = unet

    def forward(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, tokens: torch.Tensor
    ) -> torch.Tensor:
        """The predicted velocity."""
        words = self.text_encoder(tokens).last_hidden_state
        velocity: torch.Tensor = self.unet(noisy, timesteps, words).sample
        return velocity


class Training:
    """The second stage: its networks, its moving average, and its place in the run."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        *,
        work: Path,
        steps: int,
        seed: int,
        device: torch.device,
        compiled: bool = False,
    ) -> None:
        torch.manual_seed(seed)
        self.tokenizer, self._steps, self._seed, self._device = tokenizer, steps, seed, device
        self._path = work / "denoiser.pt"
        model = Denoiser(build_text_encoder(tokenizer), build_unet())
        # On a CPU in bfloat16 the plain processor is a tenth faster than the fused kernel here.
        model.unet.set_attn_processor(AttnProcessor())
        self._model = model.to(device).train()
        self._model.unet.to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self._model).eval().requires_grad_(False)
        if compiled:
            self._model.unet.compile()
        self._optimizer = torch.optim.AdamW(
            self._model.parameters(), PEAK_LEARNING_RATE, weight_decay=0.01, fused=True
        )
        weights = torch.ones(16, 16)
        weights[SUBJECT_ROWS, SUBJECT_COLUMNS] = SUBJECT_WEIGHT
        self._weights = (weights / weights.mean()).to(device)
        self._alphas = build_scheduler().alphas_cumprod.to(device)
        self.step = 0
        if self._path.exists():
            self._restore()

    def run_until(self, last: int, latents: NDArray[np.float16], scenes: list[Scene]) -> None:
        """Train up to step `last` on latents of unit variance."""
        progress = Progress("denoiser", self.step, self._steps)
        while self.step < min(last, self._steps):
            rng = np.random.default_rng([self._seed, self.step])
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.step)
            chosen = rng.integers(len(latents), size=BATCH)
            at_first = self.step < PLAIN_PART * self._steps
            plain_share = PLAIN_SHARE_AT_FIRST if at_first else PLAIN_SHARE
            captions = [caption(scenes[index], rng, plain_share) for index in chosen]
            loss = self._loss(torch.from_numpy(latents[chosen]).float(), captions, generator)
            self._update(loss)
            progress.report(self.step, loss.item())
            if self.step % SAVE_EVERY == 0 or self.step == self._steps:
                self._save()

    @torch.no_grad()
    def repaired(
        self, latents: torch.Tensor, captions: list[str], rng: np.random.Generator
    ) -> torch.Tensor:
        """These latents after a little noise and one prediction, as the last steps leave them."""
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        noise = torch.randn(latents.shape, generator=generator)
        last = int(REPAIRED_SHARE * len(self._alphas))
        timesteps = torch.randint(last, (len(latents),), generator=generator).to(self._device)
        kept, lost = self._shares(timesteps)
        noisy = kept * latents.to(self._device) + lost * noise.to(self._device)
        tokens = tokenize(self.tokenizer, captions).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            velocity = self.average(noisy, timesteps, tokens)
        repaired: torch.Tensor = kept * noisy - lost * velocity.float()
        return repaired

    def _shares(self, timesteps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How much of the picture and how much of the noise there is at these timesteps."""
        alphas = self._alphas[timesteps][:, None, None, None]
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _loss(
        self, latents: torch.Tensor, captions: list[str], generator: torch.Generator
    ) -> torch.Tensor:
        noise = torch.randn(latents.shape, generator=generator)
        # One timestep from each of BATCH equal slices: the loss is much less noisy than at random.
        slices = (torch.arange(len(latents)) + torch.rand(len(latents), generator=generator)) / len(
            latents
        )
        timesteps = (slices**NOISE_SKEW * len(self._alphas)).long().to(self._device)
        kept, lost = self._shares(timesteps)
        latents, noise = (
            part.to(self._device, memory_format=torch.channels_last) for part in (latents, noise)
        )
        tokens = tokenize(self.tokenizer, captions).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            velocity = self._model(kept * latents + lost * noise, timesteps, tokens)
        error = (velocity.float() - (kept * noise - lost * latents)).square().mean(dim=(0, 1))
        loss: torch.Tensor = (error * self._weights).mean()
        return loss

    def _update(self, loss: torch.Tensor) -> None:
        rate = min((self.step + 1) / 200, 1 - self.step / self._steps)
        for group in self._optimizer.param_groups:
            group["lr"] = PEAK_LEARNING_RATE * rate
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, current in zip(
                self.average.parameters(), self._model.parameters(), strict=True
            ):
                mean.lerp_(current, 1 - decay)

    def _save(self) -> None:
        state = {
            "model": self._model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
        }
        checkpoint.save(self._path, state)

    def _restore(self) -> None:
        state = checkpoint.load(self._path, self._device)
        self._model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token numbers, padded and cut to the model's length as the pipeline does it."""
    encoded = tokenizer(
        captions,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    tokens: torch.Tensor = encoded.input_ids
    return tokens
