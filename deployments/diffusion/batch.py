"""The running rows of one key, stacked, so that one forward and one matmul serve them all.

It knows no queue, no futures and no pixels. Membership changes restack the tensors; a step with
the same members touches none of them but the state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from deployments.diffusion.families.family import Conditioning
from deployments.diffusion.run import Run

Denoise = Callable[[torch.Tensor, torch.Tensor, Conditioning], torch.Tensor]


@dataclass(slots=True, eq=False)
class Member:
    """A run and its tensors on the device; latents are (C, h, w), float32."""

    run: Run
    state: torch.Tensor
    """(K, C, h, w), K as in the run's own table."""
    conditioning: Conditioning
    """One lane: the prompt's."""
    negative: Conditioning | None
    """One lane, for guided runs."""
    kept: "Kept | None" = None
    """For inpainting."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What keeps a masked run's unpainted region as it was."""

    mask: torch.Tensor
    """(1, h, w); 1 is painted anew."""
    image_latents: torch.Tensor
    noise: torch.Tensor
    """The noise the run started from."""


class Batch:
    """Rows that share a forward."""

    _state: torch.Tensor
    """(B, K, C, h, w), K as in the widest table of the batch."""
    _conditioning: Conditioning
    _guided_rows: torch.Tensor
    _guidance: torch.Tensor

    def __init__(self, denoise: Denoise, device: torch.device) -> None:
        self._denoise = denoise
        self._device = device
        self.members: list[Member] = []
        self._restack([])

    @property
    def lanes(self) -> int:
        """Lanes of the next forward."""
        return sum(member.run.lanes for member in self.members)

    @property
    def weight(self) -> float:
        """What the members take of the engine's capacity."""
        return sum(member.run.weight for member in self.members)

    def join(self, newcomers: Sequence[Member]) -> None:
        """The newcomers are in the next step."""
        self._restack([*self.members, *newcomers])

    def leave(self, leaving: Callable[[Run], bool]) -> list[Member]:
        """Takes out the members for whose run `leaving` is true."""
        out: list[Member] = []
        stay: list[Member] = []
        for member in self.members:  # asked once each: another thread may cancel in between
            (out if leaving(member.run) else stay).append(member)
        if out:
            self._restack(stay)
        return out

    def step(self) -> None:
        """One model call for every member, each by its own table."""
        scales, timesteps = self._column("scales"), self._column("timesteps").flatten()
        matrices, noise = self._matrices(), self._noise()
        sample = self._state[:, 0]
        output = self._guided(scales * sample, timesteps)
        inputs = torch.cat([self._state, output[:, None], noise[:, None]], dim=1)
        # The latent's three axes are one to the matmul: (B, K, K + 2) @ (B, K + 2, C * h * w).
        self._state = (matrices @ inputs.flatten(2)).view_as(self._state)
        self._keep_unpainted()
        for member, state in zip(self.members, self._state, strict=True):
            member.state = state[: member.run.table.buffers]
            member.run.call += 1

    def _restack(self, members: list[Member]) -> None:
        # Nothing of the batch changes before all of it is there: memory may run out in between.
        state, conditioning = torch.zeros(0), {}
        buffers = max((member.run.table.buffers for member in members), default=0)
        guided = [i for i, member in enumerate(members) if member.negative is not None]
        if members:
            state = torch.stack([_padded(member.state, buffers) for member in members])
            lanes = [m.conditioning for m in members] + [m.negative for m in members if m.negative]
            conditioning = {name: torch.cat([lane[name] for lane in lanes]) for name in lanes[0]}
        scales = [members[i].run.row.guidance_scale for i in guided]
        guidance = torch.tensor(scales, device=self._device).reshape(-1, 1, 1, 1)
        rows = torch.tensor(guided, dtype=torch.long, device=self._device)
        self._state, self._conditioning = state, conditioning
        self._guided_rows, self._guidance = rows, guidance
        self.members = members

    def _guided(self, sample: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """Lanes are packed: one of every row, then the second lane of the guided rows alone."""
        rows = self._guided_rows
        output = self._denoise(
            torch.cat([sample, sample[rows]]),
            torch.cat([timesteps, timesteps[rows]]),
            self._conditioning,
        )
        conditional, unconditional = (
            output[: len(self.members)].clone(),
            output[len(self.members) :],
        )
        away = conditional[rows] - unconditional
        return conditional.index_copy_(0, rows, unconditional + self._guidance * away)

    def _column(self, name: str) -> torch.Tensor:
        """This call's value of a per-call table column, one per row: (B, 1, 1, 1)."""
        values = [getattr(m.run.table, name)[m.run.call] for m in self.members]
        return torch.from_numpy(np.array(values)).to(self._device).reshape(-1, 1, 1, 1)

    def _matrices(self) -> torch.Tensor:
        """(B, K, K + 2): every row's matrix, spread to the widest state of the batch."""
        width = self._state.shape[1]
        matrices = np.zeros((len(self.members), width, width + 2), np.float32)
        for matrix, member in zip(matrices, self.members, strict=True):
            own = member.run.table.matrices[member.run.call]
            matrix[: len(own), : len(own)] = own[:, :-2]
            matrix[: len(own), width:] = own[:, -2:]
        return torch.from_numpy(matrices).to(self._device)

    def _noise(self) -> torch.Tensor:
        """(B, C, h, w); zeros for rows whose scheduler does not draw at this call."""
        noise = torch.zeros_like(self._state[:, 0])
        for i, member in enumerate(self.members):
            index = member.run.noise.step_index[member.run.call]
            if index >= 0:
                noise[i] = member.run.noise.steps[index].to(self._device)
        return noise

    def _keep_unpainted(self) -> None:
        """Sets the unpainted region of every masked row back to its image at this call's noise."""
        for member, state in zip(self.members, self._state, strict=True):
            if member.kept is not None:
                mask = member.kept.mask
                signal, noise = member.run.table.blend[member.run.call].tolist()
                image = signal * member.kept.image_latents + noise * member.kept.noise
                state[0] = mask * state[0] + (1 - mask) * image


def _padded(state: torch.Tensor, buffers: int) -> torch.Tensor:
    missing = buffers - len(state)
    return torch.cat([state, state.new_zeros(missing, *state.shape[1:])]) if missing else state
