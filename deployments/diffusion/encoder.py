"""The encoder: prompts and input images become the tensors with which a run joins a batch."""

from collections import OrderedDict
from collections.abc import Sequence

import torch

from deployments.diffusion.batch import Kept, Member
from deployments.diffusion.families.family import Conditioning, Family
from deployments.diffusion.run import Run

_PROMPTS_KEPT = 256  # SD 1.5: 77 x 768 in bf16 is 118 KB a prompt, so 30 MB
_IMAGES_AT_ONCE = 4  # bounds the encoder's memory


class Encoder:
    """Encodes whoever joins together, together: each new prompt once, images four at a time.

    `strict` encodes one thing at a time, since in other company the last bits differ.
    """

    def __init__(self, family: Family, *, strict: bool = False) -> None:
        self._family = family
        self._images_at_once = 1 if strict else _IMAGES_AT_ONCE
        self._prompts_at_once = 1 if strict else _PROMPTS_KEPT
        self._prompts: OrderedDict[str, Conditioning] = OrderedDict()

    def encode(self, runs: Sequence[Run]) -> list[Member]:
        """One member per run, in order."""
        prompts = [run.row.prompt for run in runs]
        negatives = [run.row.negative_prompt for run in runs if run.guided_calls]
        encoded = self._encode_prompts([*prompts, *negatives])
        images = self._encode_images([run for run in runs if run.prepared is not None])
        return [
            self._member(
                run,
                encoded[run.row.prompt],
                encoded[run.row.negative_prompt] if run.guided_calls else None,
                images.get(run),
            )
            for run in runs
        ]

    def _encode_prompts(self, prompts: list[str]) -> dict[str, Conditioning]:
        known = {prompt: self._prompts.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, conditioning in known.items() if conditioning is None]
        found = {prompt: c for prompt, c in known.items() if c is not None}
        for start in range(0, len(missing), self._prompts_at_once):
            chunk = missing[start : start + self._prompts_at_once]
            lanes = self._family.encode_prompts(chunk)
            for i, prompt in enumerate(chunk):
                # Cloned, since a view would keep the whole batch of prompts alive.
                found[prompt] = {name: t[i : i + 1].clone() for name, t in lanes.items()}
        for prompt in known:
            self._prompts[prompt] = found[prompt]
            self._prompts.move_to_end(prompt)
        while len(self._prompts) > _PROMPTS_KEPT:
            self._prompts.popitem(last=False)
        return found

    def _encode_images(self, runs: list[Run]) -> dict[Run, torch.Tensor]:
        latents: dict[Run, torch.Tensor] = {}
        device = self._family.device
        for start in range(0, len(runs), self._images_at_once):
            chunk = runs[start : start + self._images_at_once]
            pixels = [
                torch.tensor(run.prepared.pixels) for run in chunk if run.prepared is not None
            ]
            noise = torch.stack([run.noise.encoder for run in chunk])
            encoded = self._family.encode_images(torch.stack(pixels).to(device), noise.to(device))
            latents |= dict(zip(chunk, encoded, strict=True))
        return latents

    def _member(
        self,
        run: Run,
        conditioning: Conditioning,
        negative: Conditioning | None,
        image_latents: torch.Tensor | None,
    ) -> Member:
        noise = run.noise.start.to(self._family.device)
        signal_scale, noise_scale = run.table.start
        state = noise.new_zeros(run.table.buffers, *noise.shape)
        state[0] = noise_scale * noise
        member = Member(run, state, conditioning, negative)
        if run.prepared is None or image_latents is None:
            return member
        state[0] += signal_scale * image_latents
        if run.prepared.latent_mask is not None:
            mask = torch.tensor(run.prepared.latent_mask[None], device=noise.device)
            member.kept = Kept(mask, image_latents, noise)
        return member
