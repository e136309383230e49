"""Four small learners that use the whole contract of the core: a WGAN-GP, three phases, MAML, recurrent PPO.

Axes: B samples, T time, F features, N tasks, K shots.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from stockpred.train.cadence import random_key
from stockpred.train.learner import Batch, Direction, Evaluation, Learner, Networks, Update

SHIFT = (2.0, 0.0)


class KeyedStream:
    """Batches made by a function of one sample's number; validation deals out whole batches in turn."""

    num_samples = 512
    num_validation = 96

    def sample(self, generator: torch.Generator) -> Batch:
        raise NotImplementedError

    def batch(self, step: int, part: int, num_parts: int, part_size: int) -> Batch:
        begin = step * num_parts * part_size + part * part_size
        numbers = range(begin, begin + part_size)
        return {**self._joined(numbers, "train"), "loss_weight": torch.tensor(float(part_size))}

    def evaluation(self, part: int, num_parts: int, batch_size: int) -> Iterator[Batch]:
        starts = range(0, self.num_validation, batch_size)
        for begin in list(starts)[part::num_parts]:
            numbers = range(begin, min(begin + batch_size, self.num_validation))
            yield {**self._joined(numbers, "validation"), "sample": torch.tensor(list(numbers))}

    def _joined(self, numbers: range, purpose: str) -> Batch:
        made = [
            self.sample(torch.Generator().manual_seed(random_key(1, purpose, number))) for number in numbers
        ]
        return {name: torch.stack([one[name] for one in made]) for name in made[0]}


class GaussianStream(KeyedStream):
    """real ~ N(SHIFT, I), noise ~ N(0, I), and where to put the gradient penalty.

    Two dimensions: in one, a critic whose slope has the wrong sign cannot turn round.
    """

    def sample(self, generator: torch.Generator) -> Batch:
        return {
            "real": torch.tensor(SHIFT) + torch.randn(2, generator=generator),
            "noise": torch.randn(2, generator=generator),
            "mix": torch.rand(1, generator=generator),
        }


class WassersteinGan(Learner):
    """WGAN-GP (Gulrajani et al. 2017); the generator, N(0, I) at first, rests while the critic warms up."""

    metrics: Mapping[str, Direction] = {"estimate": "min"}
    num_critic_steps, penalty_weight, critic_only_steps = 3, 10.0, 100

    def __init__(self) -> None:
        torch.manual_seed(5)
        self.networks = {
            "critic": nn.Sequential(
                nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)
            ),
            "generator": nn.Linear(2, 2),
        }
        nn.init.eye_(self.networks["generator"].weight)
        nn.init.zeros_(self.networks["generator"].bias)

    def phase(self, step: int) -> str:
        return "critic alone" if step < self.critic_only_steps else "both"

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        for _ in range(self.num_critic_steps):
            yield "critic", self._critic_loss(batch, networks)
        if step >= self.critic_only_steps:
            made = networks.synced("generator")(batch["noise"])
            yield "generator", -networks.local("critic")(made).mean()

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        critic, made = networks.local("critic"), networks.local("generator")(batch["noise"])
        gain_B = (critic(batch["real"]) - critic(made)).squeeze(-1)
        rows = {"sample": batch["sample"], "real": batch["real"], "made": made}
        return Evaluation({"estimate": (gain_B.sum(), torch.tensor(float(len(gain_B))))}, rows)

    def score(self, rows: Mapping[str, Tensor]) -> dict[str, float]:
        """Return how far the means of the two samples are apart."""
        difference = rows["real"].double().mean(0) - rows["made"].double().mean(0)
        return {"distance": float(difference.norm())}

    def _critic_loss(self, batch: Batch, networks: Networks) -> Tensor:
        with torch.no_grad():
            made = networks.local("generator")(batch["noise"])
        mixed = (batch["mix"] * batch["real"] + (1 - batch["mix"]) * made).requires_grad_()
        # One forward through the synced critic, the penalty's included: else its gradients are not averaged.
        scores = networks.synced("critic")(torch.cat([batch["real"], made, mixed]))
        of_real, of_made, of_mixed = scores.chunk(3)
        (slope,) = torch.autograd.grad(of_mixed.sum(), mixed, create_graph=True)
        penalty = ((slope.norm(dim=-1) - 1.0) ** 2).mean()
        return of_made.mean() - of_real.mean() + self.penalty_weight * penalty


class WaveStream(KeyedStream):
    """Waves of random phase, [T=6, F=2], and noise of the same shape."""

    def sample(self, generator: torch.Generator) -> Batch:
        angle_T = torch.arange(6.0) + 6.28 * torch.rand(1, generator=generator)
        return {
            "series": torch.stack([angle_T.sin(), angle_T.cos()], -1),
            "noise": torch.rand(6, 2, generator=generator),
        }


class ThreePhases(Learner):
    """TimeGAN's phases (Yoon et al. 2019) with networks of one recurrent layer."""

    metrics: Mapping[str, Direction] = {"reconstruction": "min"}
    supervised_from, joint_from = 4, 8

    def __init__(self) -> None:
        torch.manual_seed(6)
        self.networks = {
            "embedder": Sequence(2, 5), "recovery": Sequence(5, 2), "supervisor": Sequence(5, 5),
            "generator": Sequence(2, 5), "discriminator": Sequence(5, 1),
        }  # fmt: skip

    def phase(self, step: int) -> str:
        if step < self.supervised_from:
            return "embedding"
        return "supervised" if step < self.joint_from else "joint"

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        local, synced, series = networks.local, networks.synced, batch["series"]
        phase = self.phase(step)
        if phase == "supervised":
            hidden = local("embedder")(series).detach()
            yield "supervisor", self._next_step_error(synced("supervisor"), hidden)
        if phase == "joint":
            made = synced("supervisor")(synced("generator")(batch["noise"]))
            hidden = local("embedder")(series).detach()
            fooled = functional.softplus(-local("discriminator")(made)).mean()
            supervised = self._next_step_error(synced("supervisor"), hidden)
            yield ("generator", "supervisor"), fooled + supervised
        if phase != "supervised":
            hidden = synced("embedder")(series)
            yield ("embedder", "recovery"), (synced("recovery")(hidden) - series).square().mean()
        if phase == "joint":
            made = local("supervisor")(local("generator")(batch["noise"])).detach()
            real = local("embedder")(series).detach()
            of_real, of_made = synced("discriminator")(torch.cat([real, made])).chunk(2)
            loss = functional.softplus(-of_real).mean() + functional.softplus(of_made).mean()
            yield "discriminator", loss

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        rebuilt = networks.local("recovery")(networks.local("embedder")(batch["series"]))
        error_B = (rebuilt - batch["series"]).square().mean((1, 2))
        return Evaluation({"reconstruction": (error_B.sum(), torch.tensor(float(len(error_B))))})

    @staticmethod
    def _next_step_error(supervisor: nn.Module, hidden: Tensor) -> Tensor:
        return (supervisor(hidden)[:, :-1] - hidden[:, 1:]).square().mean()


class Sequence(nn.Module):
    """[B, T, num_inputs] -> [B, T, num_outputs] by one GRU and a linear layer."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.recurrent = nn.GRU(num_inputs, 6, batch_first=True)
        self.out = nn.Linear(6, num_outputs)

    def forward(self, inputs_BTF: Tensor) -> Tensor:
        outputs: Tensor = self.out(self.recurrent(inputs_BTF)[0])
        return outputs


class SinusoidStream(KeyedStream):
    """Tasks of Finn et al. 2017: amplitude 0.1 to 5, phase 0 to pi; K = 5 shots and 5 queries."""

    def sample(self, generator: torch.Generator) -> Batch:
        amplitude, phase = torch.rand(2, generator=generator) * torch.tensor([4.9, math.pi])
        x_K = 10 * torch.rand(10, 1, generator=generator) - 5
        y_K = (0.1 + amplitude) * torch.sin(x_K - phase)
        return {"support_x": x_K[:5], "support_y": y_K[:5], "query_x": x_K[5:], "query_y": y_K[5:]}


class Adaptable(nn.Module):
    """A network that adapts to a support set inside its own forward pass, where DDP sees it."""

    def __init__(self, num_inner_steps: int = 1, inner_lr: float = 0.05) -> None:
        super().__init__()
        self.base = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
        self.num_inner_steps, self.inner_lr = num_inner_steps, inner_lr

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """Return [N, K, 1], each task's answers to its queries after the inner steps (second order)."""
        with torch.enable_grad():
            tasks = zip(support_x, support_y, query_x, strict=True)
            return torch.stack([self._adapted(x, y, query) for x, y, query in tasks])

    def _adapted(self, x: Tensor, y: Tensor, query: Tensor) -> Tensor:
        weights = dict(self.base.named_parameters())
        for _ in range(self.num_inner_steps):
            loss = (functional_call(self.base, weights, (x,)) - y).square().mean()
            slopes = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            weights = {
                name: weight - self.inner_lr * slope
                for (name, weight), slope in zip(weights.items(), slopes, strict=True)
            }
        answers: Tensor = functional_call(self.base, weights, (query,))
        return answers


class Maml(Learner):
    """MAML (Finn et al. 2017): the loss of adapted networks on their queries."""

    metrics: Mapping[str, Direction] = {"query_error": "min"}

    def __init__(self) -> None:
        torch.manual_seed(7)
        self.networks = {"model": Adaptable()}

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        yield "model", self._errors(networks.synced("model"), batch).mean()

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        errors_N = self._errors(networks.local("model"), batch).detach()
        return Evaluation({"query_error": (errors_N.sum(), torch.tensor(float(len(errors_N))))})

    @staticmethod
    def _errors(model: nn.Module, batch: Batch) -> Tensor:
        answers = model(batch["support_x"], batch["support_y"], batch["query_x"])
        return (answers - batch["query_y"]).square().mean((1, 2))


class EpisodeStream(KeyedStream):
    """Seeds of validation episodes; training batches are the learner's own."""

    num_validation = 4

    def sample(self, generator: torch.Generator) -> Batch:
        return {"seed": torch.randint(2**31, (), generator=generator)}


class ActorCritic(nn.Module):
    """An LSTM over observations whose state is cleared where an episode begins."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 24)
        self.action, self.value = nn.Linear(24, 2), nn.Linear(24, 1)

    def forward(self, seen_TF: Tensor, begins_T: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits [T, 2], values [T] and the memory [2, 24] after the last observation."""
        outputs = []
        for seen_F, begins in zip(seen_TF, begins_T, strict=True):
            hidden, cell = (memory * (1.0 - begins)).unbind()
            hidden, cell = self.cell(seen_F[None], (hidden[None], cell[None]))
            memory = torch.cat([hidden, cell])
            outputs.append(memory[0])
        states = torch.stack(outputs)
        return self.action(states), self.value(states).squeeze(-1), memory


class RecurrentPpo(Learner):
    """PPO (Schulman et al. 2017) with an LSTM on CartPole; each part is one environment that lives on."""

    metrics: Mapping[str, Direction] = {"episode_length": "max"}
    rollout_length, num_epochs, clip, discount, smoothing = 32, 3, 0.2, 0.99, 0.95
    longest_episode, seed = 200, 11

    def __init__(self) -> None:
        torch.manual_seed(8)
        self.networks = {"policy": ActorCritic()}
        self.parts: dict[int, dict[str, Any]] = {}

    def make_batch(self, step: int, part: int, networks: Networks) -> Batch:
        """Play on in the part's environment; return the rollout with its advantages."""
        state = self.parts.get(part) or self._new_episode(part, 0, torch.zeros(2, 24))
        first_memory, rows = state["memory"], []
        for _ in range(self.rollout_length):
            row, state = self._played(part, state, networks)
            rows.append(row)
        self.parts[part] = state
        _, after, _ = networks.local("policy")(state["seen"][None], state["begins"][None], state["memory"])
        made = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return {
            **made,
            "memory": first_memory,
            "advantage": self._advantages(made, after[0]),
            "loss_weight": torch.tensor(1.0),
        }

    def updates(self, batch: Batch, networks: Networks, step: int) -> Iterator[Update]:
        returns = batch["advantage"] + batch["value"]
        advantage = (batch["advantage"] - batch["advantage"].mean()) / (batch["advantage"].std() + 1e-8)
        for _ in range(self.num_epochs):
            logits, values, _ = networks.synced("policy")(batch["seen"], batch["begins"], batch["memory"])
            chosen = logits.log_softmax(-1).gather(-1, batch["action"][:, None]).squeeze(-1)
            ratio = (chosen - batch["log_prob"]).exp()
            clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
            policy_loss = -torch.minimum(ratio * advantage, clipped * advantage).mean()
            yield "policy", policy_loss + 0.5 * (values - returns).square().mean() / 100

    def evaluate(self, batch: Batch, networks: Networks) -> Evaluation:
        lengths = [self._greedy_length(int(seed), networks.local("policy")) for seed in batch["seed"]]
        total, count = torch.tensor(float(sum(lengths))), torch.tensor(float(len(lengths)))
        return Evaluation({"episode_length": (total, count)})

    def part_state(self, part: int) -> dict[str, Any] | None:
        return self.parts.get(part)

    def load_part_state(self, part: int, state: dict[str, Any] | None) -> None:
        self.parts.pop(part, None)
        if state is not None:
            self.parts[part] = state

    def _played(self, part: int, state: dict[str, Any], networks: Networks) -> tuple[Batch, dict[str, Any]]:
        """Take one step; return what was seen and done, and the part's state after it."""
        logits, value, memory = networks.local("policy")(
            state["seen"][None], state["begins"][None], state["memory"]
        )
        action = torch.distributions.Categorical(logits=logits[0]).sample()
        environment = environment_at(state["seen"])
        _, reward, has_fallen, _, _ = environment.step(int(action))
        length = state["length"] + 1
        is_over = has_fallen or length == self.longest_episode
        row = {
            "seen": state["seen"], "begins": state["begins"], "value": value[0], "action": action,
            "log_prob": logits.log_softmax(-1)[0, action],
            "reward": torch.tensor(float(reward)), "is_over": torch.tensor(float(is_over)),
        }  # fmt: skip
        if is_over:
            return row, self._new_episode(part, state["episode"] + 1, memory)
        return row, {
            **state,
            "seen": torch.tensor(np.asarray(environment.state, np.float32)),
            "begins": torch.tensor(0.0),
            "length": length,
            "memory": memory,
        }

    def _new_episode(self, part: int, episode: int, memory: Tensor) -> dict[str, Any]:
        seen, _ = CartPoleEnv().reset(seed=random_key(self.seed, "episode", part, episode) % 2**31)
        return {
            "seen": torch.tensor(seen), "begins": torch.tensor(1.0), "length": 0, "episode": episode,
            "memory": memory,
        }  # fmt: skip

    def _advantages(self, made: Batch, after: Tensor) -> Tensor:
        """Return generalised advantages (Schulman et al. 2016)."""
        values = torch.cat([made["value"], after[None]])
        advantages, following = torch.zeros(self.rollout_length), torch.tensor(0.0)
        for t in reversed(range(self.rollout_length)):
            goes_on = 1.0 - made["is_over"][t]
            surprise = made["reward"][t] + self.discount * goes_on * values[t + 1] - values[t]
            following = surprise + self.discount * self.smoothing * goes_on * following
            advantages[t] = following
        return advantages

    def _greedy_length(self, seed: int, policy: nn.Module) -> int:
        memory, begins = torch.zeros(2, 24), torch.tensor([1.0])
        state = torch.tensor(CartPoleEnv().reset(seed=seed)[0])
        for length in range(1, self.longest_episode + 1):
            logits, _, memory = policy(state[None], begins, memory)
            environment, begins = environment_at(state), torch.tensor([0.0])
            _, _, has_fallen, _, _ = environment.step(int(logits[0].argmax()))
            if has_fallen:
                return length
            state = torch.tensor(np.asarray(environment.state, np.float32))
        return self.longest_episode


def environment_at(seen: Tensor) -> CartPoleEnv:
    """Return a CartPole in the state that was seen."""
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    environment = CartPoleEnv()
    environment.state = tuple(float(value) for value in seen)
    return environment


LEARNERS: dict[str, tuple[type[Learner], type[KeyedStream]]] = {
    "wgan": (WassersteinGan, GaussianStream),
    "phases": (ThreePhases, WaveStream),
    "maml": (Maml, SinusoidStream),
    "ppo": (RecurrentPpo, EpisodeStream),
}
