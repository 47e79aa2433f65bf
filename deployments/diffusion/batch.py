"""The running rows of one key, stacked, so that one forward and one matmul serve them all.

It knows no queue, no futures and no pixels. Membership changes restack the tensors; a step with
the same members touches none of them but the state.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from deployments.diffusion.families.family import Conditioning
from deployments.diffusion.run import BatchKey, Run
from deployments.diffusion.step import SCALARS, Denoise, Stack, Step, one_step
from deployments.diffusion.step_cache import Lane, StepCache

PADDED_BUFFERS = 6
"""State buffers of a padded row: a compiled step must not see which samplers share the batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What keeps a masked run's unpainted region as it was."""

    mask: torch.Tensor
    """(1, h, w); 1 is painted anew."""
    image_latents: torch.Tensor
    noise: torch.Tensor
    """The noise the run started from."""


@dataclass(slots=True, eq=False)
class Member:
    """A run and its tensors on the device; latents are (C, h, w), float32."""

    run: Run
    state: torch.Tensor
    """(K, C, h, w), K as in the run's own table."""
    conditioning: Conditioning
    """One lane: the prompt's."""
    negative: Conditioning | None
    """One lane, for runs that are guided at some call."""
    kept: Kept | None = None
    """For inpainting."""


@dataclass(frozen=True)
class Layout:
    """How rows become tensors on a device, and how these are stepped."""

    denoise: Denoise
    device: torch.device
    step: Step = one_step
    buckets: tuple[int, ...] = ()
    """Lanes and rows are padded to the next of these; empty pads nothing."""
    cache: StepCache | None = None
    """Denoises in the place of `denoise`; only where nothing is padded."""

    def padded(self, lanes: int) -> int:
        """The bucket for so many lanes. What exceeds the largest, a huge row alone, stays."""
        place = bisect_left(self.buckets, lanes)
        return self.buckets[place] if place < len(self.buckets) else lanes


class Batch:
    """Rows that share a forward."""

    _state: torch.Tensor
    """(R, K, C, h, w), K as in the widest table of the batch."""
    _stack: Stack
    _numbers: list[NDArray[np.float32]]
    """Per member (calls, SCALARS + K * (K + 2)): everything that a call needs of it."""
    _clean: tuple[torch.Tensor, torch.Tensor]
    """The samples before the last step, and the model's outputs in it."""

    def __init__(self, layout: Layout, members: Sequence[Member] = ()) -> None:
        self._layout = layout
        self.members: list[Member] = []
        self.join(members)

    @property
    def key(self) -> BatchKey:
        """What its members agree on."""
        return self.members[0].run.key

    @property
    def lanes(self) -> int:
        """Lanes of the next forward."""
        return sum(member.run.lanes for member in self.members)

    @property
    def load(self) -> float:
        """Those, in lanes of the native size: what the next forward costs."""
        return sum(member.run.load for member in self.members)

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

    def part(self, members: Sequence[Member]) -> Self:
        """A batch of some of the members; the whole is itself."""
        return self if len(members) == len(self.members) else type(self)(self._layout, members)

    def restack(self) -> None:
        """To be called when parts have stepped in its place: takes over their states."""
        self._restack(self.members)

    def step(self) -> None:
        """One model call for every member, each by its own table. All of it happens, or nothing."""
        if [member.run.guided for member in self.members] != self._guided:
            self._restack(self.members)
        before = self._state
        numbers, noise = self._current_numbers(), self._current_noise()
        after, output = self._layout.step(self._denoise(), before, self._stack, numbers, noise)
        if self._layout.device.type == "cuda":
            # What goes wrong must show here, and a step's time be its own.
            torch.cuda.synchronize(self._layout.device)
        self._state, self._clean = after, (before[:, 0], output)
        for member, state in zip(self.members, after, strict=False):  # the rest is padding
            member.state = state[: member.run.table.buffers]
            member.run.call += 1

    def clean(self, members: Sequence[Member]) -> torch.Tensor:
        """(n, C, h, w): the finished latents of these members as their last call predicts them."""
        rows = [self.members.index(member) for member in members]
        shares = np.stack([member.run.table.clean[member.run.call - 1] for member in members])
        a, b = torch.from_numpy(shares).to(self._layout.device).T[:, :, None, None, None]
        sample, output = self._clean
        clean: torch.Tensor = a * sample[rows] + b * output[rows]
        return clean

    def _denoise(self) -> Denoise:
        cache = self._layout.cache
        if cache is None:
            return self._layout.denoise
        lanes = [Lane(member.run, is_second=False) for member in self.members]
        lanes += [Lane(m.run, is_second=True) for m in self.members if m.run.guided]
        return partial(cache.denoise, lanes)

    def _restack(self, members: list[Member]) -> None:
        # Nothing of the batch changes before all of it is there: memory may run out in between.
        guided = [member.run.guided for member in members]
        if members:
            state, stack = self._stacked(members, guided)
            self._state, self._stack = state, stack
            self._numbers = [numbers_of(member.run, state.shape[1]) for member in members]
        self._guided = guided
        self.members = members

    def _stacked(self, members: list[Member], guided: list[bool]) -> tuple[torch.Tensor, Stack]:
        lanes = self._layout.padded(len(members) + sum(guided))
        padded = [*members]
        buffers = max(member.run.table.buffers for member in members)
        if self._layout.buckets:  # rows are padded to as many as lanes, so that one shape has all
            padded += members[:1] * (lanes - len(members))
            buffers = max(buffers, PADDED_BUFFERS)
        second = [i for i, is_guided in enumerate(guided) if is_guided]
        row_of_lane = [*range(len(members)), *second]
        second_lane = list(range(len(padded)))
        for lane, row in enumerate(second, start=len(members)):
            second_lane[row] = lane
        told = [member.conditioning for member in members]
        told += [members[row].negative or {} for row in second]
        missing = lanes - len(row_of_lane)
        told, row_of_lane = told + told[:1] * missing, row_of_lane + [0] * missing
        state = torch.stack([_widened(member.state, buffers) for member in padded])
        return state, Stack(
            row_of_lane=torch.tensor(row_of_lane, device=self._layout.device),
            second_lane=torch.tensor(second_lane, device=self._layout.device),
            conditioning={name: torch.cat([lane[name] for lane in told]) for name in told[0]},
            **_kept(padded, state[:, 0]),
        )

    def _current_numbers(self) -> torch.Tensor:
        """This call's numbers of every row; one array, so one transfer a step."""
        numbers = [own[m.run.call] for own, m in zip(self._numbers, self.members, strict=True)]
        numbers += numbers[:1] * (len(self._state) - len(numbers))
        return torch.from_numpy(np.stack(numbers)).to(self._layout.device)

    def _current_noise(self) -> torch.Tensor:
        """(R, C, h, w); zeros for rows whose scheduler does not draw at this call."""
        noise = torch.zeros_like(self._state[:, 0])
        for i, member in enumerate(self.members):
            index = member.run.noise.step_index[member.run.call]
            if index >= 0:
                noise[i] = member.run.noise.steps[index].to(self._layout.device)
        return noise


def numbers_of(run: Run, buffers: int) -> NDArray[np.float32]:
    """(calls, SCALARS + K * (K + 2)): what each call needs, its matrix spread to K = `buffers`."""
    table = run.table
    matrices = np.zeros((table.calls, buffers, buffers + 2), np.float32)
    own = table.buffers
    matrices[:, :own, :own] = table.matrices[:, :, :-2]
    matrices[:, :own, buffers:] = table.matrices[:, :, -2:]
    numbers = np.empty((table.calls, SCALARS + buffers * (buffers + 2)), np.float32)
    numbers[:, 0], numbers[:, 1] = table.scales, table.timesteps
    guided = slice(run.guided_calls.start, run.guided_calls.stop)
    numbers[:, 2:4] = 1.0, 0.0
    numbers[guided, 2:4] = run.guidance_scale, run.row.guidance_rescale
    numbers[:, 4:SCALARS] = table.blend
    numbers[:, SCALARS:] = matrices.reshape(table.calls, -1)
    return numbers


def _kept(members: Sequence[Member], like: torch.Tensor) -> dict[str, torch.Tensor]:
    """Mask, image latents and image noise of every row; (R, ...), shaped as `like`."""
    mask, latents = torch.ones_like(like[:, :1]), torch.zeros_like(like)
    noise = torch.zeros_like(like)
    for i, member in enumerate(members):
        if (kept := member.kept) is not None:
            mask[i], latents[i], noise[i] = kept.mask, kept.image_latents, kept.noise
    return {"mask": mask, "image_latents": latents, "image_noise": noise}


def _widened(state: torch.Tensor, buffers: int) -> torch.Tensor:
    missing = buffers - len(state)
    return torch.cat([state, state.new_zeros(missing, *state.shape[1:])]) if missing else state
