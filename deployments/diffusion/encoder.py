"""The encoder: prompts and input images become the tensors with which a run joins a batch.

Where an adapter changes a text encoder, a prompt's tensors are that adapter's, at that scale.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch

from deployments.diffusion.adapters.weights import AdapterSet
from deployments.diffusion.batch import Kept, Member
from deployments.diffusion.chunks import Chunk
from deployments.diffusion.families.family import SEEN_IMAGE, Conditioning, Family
from deployments.diffusion.run import Run
from deployments.requests import AdapterUse

_TEXT_MIB = 64
"""Of the device's memory, for what is kept of text: of SD 1.5 in bf16 about 550 chunks, 118 KB
each, of FLUX 16 of 4 MB."""
_CHUNKS_AT_ONCE = 256
_GREYS_KEPT = 16
_IMAGES_AT_ONCE = 4  # bounds the encoder's memory

_Uses = tuple[AdapterUse, ...]


class Encoder:
    """Encodes whoever joins together, together: each new chunk of text once, images four at a time.

    `strict` encodes one thing at a time, since in other company the last bits differ.
    """

    def __init__(self, family: Family, *, strict: bool = False) -> None:
        self._family = family
        self._images_at_once = 1 if strict else _IMAGES_AT_ONCE
        self._chunks_at_once = 1 if strict else _CHUNKS_AT_ONCE
        self._chunks: OrderedDict[tuple[_Uses, Chunk], Conditioning] = OrderedDict()
        self._grey = lru_cache(_GREYS_KEPT)(self._encode_grey)
        self.hits = self.misses = 0
        """Chunks of text that were known, and that were not."""

    def encode(self, runs: Sequence[Run]) -> list[Member]:
        """One member per run, in order."""
        encoded = self._encode_texts(runs)
        images = self._encode_images(
            {run: (_pixels(run), run.noise.encoder) for run in runs if self._starts_from_image(run)}
        )
        seen = self._see_images(runs) if self._family.sees_image else {}
        told = {run: self._told(run) | seen.get(run, {}) for run in runs}

        def lane(run: Run, text: Sequence[Chunk]) -> Conditioning:
            known = encoded[self._text_uses(run)]
            return {**self._family.join_chunks([known[chunk] for chunk in text]), **told[run]}

        return [
            self._member(
                run,
                lane(run, run.text.prompt),
                lane(run, run.text.negative) if run.guided_calls else None,
                images.get(run),
            )
            for run in runs
        ]

    def adapters_to_put_on(self, run: Run) -> _Uses | None:
        """The set that must be put on the text encoders to read its prompts, which takes a while;
        None where it is on, or the prompts are known."""
        uses, text = self._text_uses(run), run.text
        chunks = (*text.prompt, *text.negative) if run.guided_calls else text.prompt
        known = all((uses, chunk) in self._chunks for chunk in chunks)
        return None if known or self._family.slots.wears_text(run.adapters) else uses

    def _told(self, run: Run) -> dict[str, torch.Tensor]:
        row = run.row
        return dict(self._family.told((row.width, row.height), row.guidance_scale))

    def _text_uses(self, run: Run) -> _Uses:
        """The adapters by which its prompts are read."""
        return run.adapters.touching(self._family.slots.text_parts)

    def _encode_texts(self, runs: Sequence[Run]) -> dict[_Uses, dict[Chunk, Conditioning]]:
        """All chunks of both prompts, under the adapters that read them; one set after another."""
        adapters = {self._text_uses(run): run.adapters for run in runs}
        texts: dict[_Uses, list[Chunk]] = {uses: [] for uses in adapters}
        for run in runs:
            texts[self._text_uses(run)] += run.text.prompt
            if run.guided_calls:
                texts[self._text_uses(run)] += run.text.negative
        return {
            uses: self._encode_chunks(adapters[uses], uses, chunks)
            for uses, chunks in texts.items()
        }

    def _encode_chunks(
        self, adapters: AdapterSet, uses: _Uses, chunks: Sequence[Chunk]
    ) -> dict[Chunk, Conditioning]:
        known = {chunk: self._chunks.get((uses, chunk)) for chunk in chunks}
        missing = [chunk for chunk, conditioning in known.items() if conditioning is None]
        found = {chunk: c for chunk, c in known.items() if c is not None}
        self.hits, self.misses = self.hits + len(found), self.misses + len(missing)
        if missing:
            self._family.slots.wear_text(adapters)
        for start in range(0, len(missing), self._chunks_at_once):
            together = missing[start : start + self._chunks_at_once]
            lanes = self._family.encode_prompts(together)
            for i, chunk in enumerate(together):
                # Cloned, since a view would keep the whole batch of chunks alive.
                found[chunk] = {name: t[i : i + 1].clone() for name, t in lanes.items()}
        for chunk in known:
            self._chunks[uses, chunk] = found[chunk]
            self._chunks.move_to_end((uses, chunk))
        while self._chunks and sum(map(_bytes, self._chunks.values())) > _TEXT_MIB * 2**20:
            self._chunks.popitem(last=False)
        return found

    def _starts_from_image(self, run: Run) -> bool:
        """An inpainting model that repaints from pure noise has no use for the image itself."""
        return run.prepared is not None and not (
            self._family.sees_image and run.table.start[0] == 0
        )

    def _encode_images(
        self, images: Mapping[Run, tuple[torch.Tensor, torch.Tensor]]
    ) -> dict[Run, torch.Tensor]:
        """Pixels (3, H, W) and noise (C, h, w) of each run -> latents (C, h, w)."""
        latents: dict[Run, torch.Tensor] = {}
        device, runs = self._family.device, list(images)
        for start in range(0, len(runs), self._images_at_once):
            chunk = runs[start : start + self._images_at_once]
            pixels = torch.stack([images[run][0] for run in chunk]).to(device)
            noise = torch.stack([images[run][1] for run in chunk]).to(device)
            latents |= dict(zip(chunk, self._family.encode_images(pixels, noise), strict=True))
        return latents

    def _see_images(self, runs: Sequence[Run]) -> dict[Run, dict[str, torch.Tensor]]:
        """For a denoiser that sees what it repaints: the mask, and the picture without that.

        A row that has no mask repaints everything, and such a denoiser then sees grey.
        """
        masked = [run for run in runs if run.prepared is not None and run.prepared.mask is not None]
        kept = self._encode_images({run: (_kept_pixels(run), run.noise.masked) for run in masked})
        kept |= {run: self._grey(run.row.width, run.row.height) for run in runs if run not in kept}
        return {
            run: {SEEN_IMAGE: torch.cat([self._seen_mask(run, kept[run]), kept[run]])[None]}
            for run in runs
        }

    def _seen_mask(self, run: Run, like: torch.Tensor) -> torch.Tensor:
        """(1, h, w): as diffusers shows it, of every cell its first pixel."""
        if run.prepared is None or run.prepared.mask is None:
            return torch.ones_like(like[:1])
        factor = self._family.latent_factor
        return torch.tensor(run.prepared.mask[None, ::factor, ::factor] >= 0.5).to(like)

    def _encode_grey(self, width: int, height: int) -> torch.Tensor:
        """(C, h, w) of a grey picture."""
        family = self._family
        cells = (height // family.latent_factor, width // family.latent_factor)
        pixels = torch.zeros(1, 3, height, width, device=family.device)
        noise = torch.zeros(1, family.latent_channels, *cells, device=family.device)
        return family.encode_images(pixels, noise)[0]

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
        if run.prepared.latent_mask is not None and not self._family.sees_image:
            mask = torch.tensor(run.prepared.latent_mask[None], device=noise.device)
            member.kept = Kept(mask, image_latents, noise)
        return member


def _pixels(run: Run) -> torch.Tensor:
    """(3, H, W) of the input image."""
    assert run.prepared is not None
    return torch.tensor(run.prepared.pixels)


def _kept_pixels(run: Run) -> torch.Tensor:
    """The input image, grey where it is repainted."""
    assert run.prepared is not None
    assert run.prepared.mask is not None
    return _pixels(run) * torch.tensor(run.prepared.mask < 0.5)


def _bytes(conditioning: Conditioning) -> int:
    return sum(tensor.nbytes for tensor in conditioning.values())
