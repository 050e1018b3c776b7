"""One update of EnhancedRL in PyTorch: the step that learner_bench times ours beside. README.md says what is the same and what is not.

Commands on standard input, one line of answer each:
  load FOLDER        takes a case that learner_bench wrote: case.json, start.safetensors, critics.N.safetensors, actor.N.safetensors
  losses FORM N      N steps from the start, by the batches in turn: critic and actor loss of each
  time FORM SECONDS  steps for about so long: their number and what they cost
FORM: modules or batched, and after a + how it is run: eager or compiled.
"""
import json
import resource
import struct
import sys
import time

import numpy
import torch
from torch import nn


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(length)), file.read()
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = numpy.frombuffer(data[begin:end], dtype="<f4").reshape(entry["shape"])
        tensors[name] = torch.from_numpy(values.copy())
    return tensors


class Modules(nn.Module):
    """The ensemble as one writes it first: a Sequential for each member."""

    def __init__(self, members, widths):
        super().__init__()
        def member():
            layers = []
            for before, after in zip(widths, widths[1:]):
                layers += [nn.Linear(before, after), nn.ReLU()]
            return nn.Sequential(*layers[:-1])
        self.nets = nn.ModuleList(member() for _ in range(members))

    def forward(self, x):
        return torch.stack([net(x) for net in self.nets])

    def layers(self):  # Of each layer, a list of the members' (weight, bias).
        return [[(net[i].weight, net[i].bias) for net in self.nets] for i in range(0, len(self.nets[0]), 2)]


class Batched(nn.Module):
    """The ensemble as one batched product for each layer."""

    def __init__(self, members, widths):
        super().__init__()
        self.weights = nn.ParameterList(torch.empty(members, after, before) for before, after in zip(widths, widths[1:]))
        self.biases = nn.ParameterList(torch.empty(members, 1, after) for after in widths[1:])

    def forward(self, x):
        h = x.expand(self.weights[0].shape[0], -1, -1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases)):
            h = torch.baddbmm(bias, h, weight.transpose(1, 2))
            if i + 1 < len(self.weights):
                h = h.relu()
        return h

    def layers(self):
        return [[(w[m], b[m, 0]) for m in range(len(w))] for w, b in zip(self.weights, self.biases)]


def spread(flat, layers):
    """Copies one flat tensor, [layer 0: weights [M, out, in], biases [M, out]; layer 1: ...], into the layers."""
    at = 0
    with torch.no_grad():
        for layer in layers:
            for part in (0, 1):
                for member in layer:
                    size = member[part].numel()
                    member[part].copy_(flat[at:at + size].view_as(member[part]))
                    at += size
    assert at == flat.numel()


def optimiser(net, rate, first, second, updates, like):
    """Adam with the moments that ours had."""
    adam = torch.optim.Adam(net.parameters(), lr=rate, betas=(0.9, 0.999), eps=1e-8, fused=True)
    moments = []
    for flat in (first, second):
        shadow = like()
        spread(flat, shadow.layers())
        moments.append([p.detach() for p in shadow.parameters()])
    for parameter, m, v in zip(net.parameters(), *moments):
        adam.state[parameter] = {"step": torch.tensor(float(updates)), "exp_avg": m.clone(), "exp_avg_sq": v.clone()}
    return adam


def box_excess(action, baseline, box, beta):
    lower, upper = box[:, 0].view(-1, 1, 1), box[:, 1].view(-1, 1, 1)
    offset = action - baseline
    excess = (lower - offset).clamp_min(0) + (offset - upper).clamp_min(0)
    return excess / ((upper - lower).clamp_min(1e-6) * beta)


def box_penalty(excess):
    knee = 6.0
    return (excess.clamp_max(knee).expm1() + (excess - knee).clamp_min(0) * 403.4287934927351).sum(-1)


class Step:
    def __init__(self, case, start, form):
        kind, run = form.split("+")
        self.case, self.steps = case, case["steps_done"]
        members, groups = case["critic"]["members"], case["groups"]
        Net = {"modules": Modules, "batched": Batched}[kind]
        make_actor = lambda: Net(1, case["actor"]["widths"])
        make_critic = lambda: Net(members, case["critic"]["widths"])
        self.actor, self.actor_target, self.critic, self.critic_target = make_actor(), make_actor(), make_critic(), make_critic()
        for net, name in ((self.actor, "actor"), (self.actor_target, "actor.target"), (self.critic, "critic"), (self.critic_target, "critic.target")):
            spread(start[name], net.layers())
        updates = {name: start[name + ".updates"][0].item() * 2**20 + start[name + ".updates"][1].item() for name in ("actor", "critic")}
        self.actor_adam = optimiser(self.actor, case["actor_rate"], start["actor.first"], start["actor.second"], updates["actor"], make_actor)
        self.critic_adam = optimiser(self.critic, case["critic_rate"], start["critic.first"], start["critic.second"], updates["critic"], make_critic)
        self.action_mean, self.action_scale = torch.tensor(case["action_mean"]), torch.tensor(case["action_scale"])
        self.omega = torch.tensor(case["omega"])
        self.group_size = members // groups
        compiled = (lambda f: torch.compile(f, fullgraph=True, dynamic=False)) if run == "compiled" else (lambda f: f)
        self.target, self.critic_loss, self.actor_loss = compiled(self._target), compiled(self._critic_loss), compiled(self._actor_loss)

    def q(self, net, states, actions, batch):
        seen = (actions - self.action_mean) * self.action_scale
        return net(torch.cat([states, seen], 1)).reshape(self.case["critic"]["members"], batch, -1)

    def _target(self, t):
        c = self.case
        action = self.actor_target(t["next_state"])[0].tanh()
        next_q = self.q(self.critic_target, t["next_state"], action, c["batch"])
        excess = box_excess(action.view_as(t["next_baseline"]), t["next_baseline"], t["next_box"], c["beta"])
        valued = next_q - c["alpha_d"] * box_penalty(excess)
        bootstrap = c["gamma"] * (1 - t["terminated"]) * (valued * t["next_mask"]).sum(-1)
        return (t["reward"] * t["mask"]).repeat_interleave(self.group_size, 0).sum(-1) + bootstrap

    def _critic_loss(self, t, target):
        difference = (self.q(self.critic, t["state"], t["action"], self.case["batch"]) * t["mask"]).sum(-1) - target
        return (difference.square() * t["weight"]).mean(-1).sum(), difference.detach().abs().mean(0)

    def _actor_loss(self, t):
        c = self.case
        logits = self.actor(t["state"])[0]
        mu = logits.tanh()
        excess = box_excess(mu.view_as(t["baseline"]), t["baseline"], t["box"], c["beta"])
        saturation = (logits.abs() - 2).clamp_min(0).square().sum(-1).view_as(t["mask"])
        penalty = box_penalty(excess) + saturation
        weight = t["mask"] * (t["trains_actor"] * t["weight"]).unsqueeze(1)
        q = self.q(self.critic, t["state"], mu, c["batch"]).view(c["groups"], self.group_size, c["batch"], -1)
        deviation = (q.var(1, unbiased=False) + 1e-8).sqrt()
        by_group = self.omega.view(-1, 1, 1) * (c["lambda"] * deviation - q.mean(1))
        return ((by_group.sum(0) + c["eta"] * penalty) * weight).sum() / weight.sum().clamp_min(1e-8)

    def descend(self, net, adam, loss):
        # Of the actor's loss only the actor's gradient is asked for: a plain backward() would also make the critics', for nothing.
        parameters = list(net.parameters())
        adam.zero_grad()
        loss.backward(inputs=parameters)
        nn.utils.clip_grad_norm_(parameters, self.case["max_gradient_norm"])
        adam.step()

    def __call__(self, t, for_actor):
        with torch.no_grad():
            target = self.target(t)
        critic_loss, td_error = self.critic_loss(t, target)
        self.descend(self.critic, self.critic_adam, critic_loss)
        actor_loss = self.actor_loss(for_actor)
        self.descend(self.actor, self.actor_adam, actor_loss)
        self.steps += 1
        if self.steps % self.case["soft_update_every"] == 0:
            with torch.no_grad():
                for net, target_net in ((self.actor, self.actor_target), (self.critic, self.critic_target)):
                    torch._foreach_lerp_(list(target_net.parameters()), list(net.parameters()), self.case["soft_update"])
        return critic_loss.item(), actor_loss.item(), td_error


class Peer:
    def __init__(self):
        self.steps = {}

    def load(self, folder):
        with open(folder + "/case.json") as file:
            self.case = json.load(file)
        torch.set_num_threads(self.case["threads"])
        self.start = read_safetensors(folder + "/start.safetensors")
        self.batches = [[read_safetensors(f"{folder}/{part}.{i}.safetensors") for part in ("critics", "actor")] for i in range(self.case["batches"])]
        self.steps.clear()
        return f"torch={torch.__version__}"

    def losses(self, form, count):
        step = Step(self.case, self.start, form)
        losses = []
        for i in range(int(count)):
            losses += step(*self.batches[i % len(self.batches)])[:2]
        return " ".join(f"{loss:.9g}" for loss in losses)

    def time(self, form, seconds):
        if form not in self.steps:
            self.steps[form] = Step(self.case, self.start, form)
            for batch in self.batches:  # For nothing: compilation, memory.
                self.steps[form](*batch)
        step, done = self.steps[form], 0
        cpu, wall = time.process_time(), time.monotonic()
        while done < 3 or time.monotonic() - wall < float(seconds):
            step(*self.batches[done % len(self.batches)])
            done += 1
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return f"steps={done} cpu_s={time.process_time() - cpu:.6f} wall_s={time.monotonic() - wall:.6f} rss_mb={rss:.1f}"


def main():
    peer = Peer()
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        print(getattr(peer, command)(*arguments), flush=True)


if __name__ == "__main__":
    main()
