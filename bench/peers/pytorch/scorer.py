"""The scorer in PyTorch: the training step that scorer_step_bench times ours beside. README.md says what is the same.

Commands on standard input, one line of answer each:
  load FOLDER         takes a case that scorer_step_bench wrote: case.json, first.safetensors, rows.safetensors
  losses FORM N       N steps from the first weights, by the batches in turn: each task's loss of each step
  time FORM SECONDS   steps for about so long: their number and what they cost
  looks FORM EPOCHS N passes from the first weights; N times in each, the log loss on the rows behind
FORM: how embeddings are updated, dense, sparse or lazy; with +dropout the preset's dropout, else none; with +double in
float64; with +rounded 1 - beta of the networks' Adam is rounded as in ours.
"""
import json
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from step import read_safetensors


def mlp(widths):
    layers = []
    for before, after in zip(widths, widths[1:]):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def mixed(experts, gate):
    """[n, X, H] by logits [n, X]."""
    return torch.bmm(gate.softmax(-1).unsqueeze(1), experts).squeeze(1)


class Backbone(nn.Module):
    """Embeddings [n, F * sets, E] and numbers [n, D] to logarithms of p or to logits [n, K]."""

    sets = 1

    def __init__(self, case, dropout):
        super().__init__()
        self.case, self.tasks, self.drop = case, case["tasks"], nn.Dropout(dropout)
        self.width = case["fields"] * case["embedding_width"] + case["numbers"]
        self.named = []  # (name, members): as the weights' file calls them.
        self.build(case["bottom"], case["tower"])

    def add(self, name, members, widths):
        nets = nn.ModuleList(mlp(widths) for _ in range(members))
        self.named.append((name, nets))
        return nets

    def add_towers(self, width, tower):
        return nn.ModuleList(self.add(f"tower_{k}", 1, [width] + tower + [1])[0] for k in range(self.tasks))

    def fill(self, first):
        with torch.no_grad():
            for name, nets in self.named:
                for m, net in enumerate(nets):
                    for i, layer in enumerate(net[::2]):
                        layer.weight.copy_(first[f"{name}.{i}.weight"][m])
                        layer.bias.copy_(first[f"{name}.{i}.bias"][m])

    def losses(self, logits, labels, weights):
        return F.binary_cross_entropy_with_logits(logits, labels, weight=weights, reduction="none")

    def scores(self, logits):
        return logits.sigmoid()


class SingleTask(Backbone):
    def build(self, bottom, tower):
        self.sets = self.tasks
        widths = [self.width] + bottom + tower + [1]
        self.nets = nn.ModuleList(self.add(f"task_{k}", 1, widths)[0] for k in range(self.tasks))

    def forward(self, embedded, numbers):
        e = self.case["embedding_width"]
        rows = (torch.cat([embedded[:, :, k * e:(k + 1) * e].flatten(1), numbers], 1) for k in range(self.tasks))
        return torch.cat([net(self.drop(x)) for net, x in zip(self.nets, rows)], 1)


class SharedBottom(Backbone):
    def build(self, bottom, tower):
        self.bottom = self.add("bottom", 1, [self.width] + bottom)
        self.towers = self.add_towers(bottom[-1], tower)

    def forward(self, embedded, numbers):
        x = torch.cat([embedded.flatten(1), numbers], 1)
        shared = self.drop(self.bottom[0](self.drop(x)).relu())
        return torch.cat([tower(shared) for tower in self.towers], 1)


class Esmm(Backbone):
    def build(self, bottom, tower):
        self.nets = self.add("task", self.tasks, [self.width] + bottom + tower + [1])

    def forward(self, embedded, numbers):
        x = self.drop(torch.cat([embedded.flatten(1), numbers], 1))
        return torch.cat([net(x) for net in self.nets], 1)

    def log_scores(self, logits):
        """Of p, q and 1 - p q = (1 - p) + p (1 - q)."""
        hit, miss = F.logsigmoid(logits), F.logsigmoid(-logits)
        first, others = hit[:, :1], hit[:, 1:]
        return (torch.cat([first, first + others], 1),
                torch.cat([miss[:, :1], torch.logaddexp(miss[:, :1], first + miss[:, 1:])], 1))

    def losses(self, logits, labels, weights):
        hit, miss = self.log_scores(logits)
        return -weights * (labels * hit + (1 - labels) * miss)

    def scores(self, logits):
        return self.log_scores(logits)[0].exp()


class Mmoe(Backbone):
    def build(self, bottom, tower):
        self.experts = self.add("experts", self.case["experts"], [self.width] + bottom)
        self.gates = self.add("gates", self.tasks, [self.width, self.case["experts"]])
        self.towers = self.add_towers(bottom[-1], tower)

    def forward(self, embedded, numbers):
        x = self.drop(torch.cat([embedded.flatten(1), numbers], 1))
        experts = torch.stack([expert(x) for expert in self.experts], 1).relu()
        of_tasks = (mixed(experts, gate(x)) for gate in self.gates)
        return torch.cat([tower(self.drop(one)) for tower, one in zip(self.towers, of_tasks)], 1)


class Ple(Backbone):
    def build(self, bottom, tower):
        self.levels, width = nn.ModuleList(), self.width
        shared, own = self.case["experts"], self.case["task_experts"]
        for i, out in enumerate(bottom):
            level = nn.ModuleDict({"own": nn.ModuleList(), "gates": nn.ModuleList()})
            for k in range(self.tasks):
                level["own"].append(self.add(f"level_{i}.task_{k}.experts", own, [width, out]))
                level["gates"].append(self.add(f"level_{i}.task_{k}.gate", 1, [width, own + shared])[0])
            level["shared"] = self.add(f"level_{i}.experts", shared, [width, out])
            if i + 1 < len(bottom):
                level["shared_gate"] = self.add(f"level_{i}.gate", 1, [width, self.tasks * own + shared])[0]
            self.levels.append(level)
            width = out
        self.towers = self.add_towers(width, tower)

    def forward(self, embedded, numbers):
        shared = self.drop(torch.cat([embedded.flatten(1), numbers], 1))
        own = [shared] * self.tasks
        for level in self.levels:
            of_tasks = [[expert(x).relu() for expert in experts] for experts, x in zip(level["own"], own)]
            of_all = [expert(shared).relu() for expert in level["shared"]]
            gates = [gate(x) for gate, x in zip(level["gates"], own)]
            own = [mixed(torch.stack(experts + of_all, 1), gate) for experts, gate in zip(of_tasks, gates)]
            if "shared_gate" in level:
                shared = mixed(torch.stack(sum(of_tasks, []) + of_all, 1), level["shared_gate"](shared))
        return torch.cat([tower(self.drop(x)) for tower, x in zip(self.towers, own)], 1)


BACKBONES = {"single_task": SingleTask, "shared_bottom": SharedBottom, "esmm": Esmm, "mmoe": Mmoe, "ple": Ple}


class Embeddings:
    """As torch.nn has them: one parameter, of which an optimiser moves all rows, or those with a gradient (sparse)."""

    def __init__(self, case, width, sparse):
        rows = case["table_rows"]
        self.table = nn.Embedding(rows, width, sparse=sparse, _weight=torch.zeros(rows, width))
        if sparse:
            self.adam = torch.optim.SparseAdam(self.table.parameters(), lr=case["embedding_rate"])
        else:
            self.adam = torch.optim.Adam(self.table.parameters(), lr=case["embedding_rate"], fused=True)

    def __call__(self, ids):
        return self.table(ids)

    def zero_grad(self):
        self.adam.zero_grad()

    def step(self):
        self.adam.step()


class LazyEmbeddings:
    """What ours does, by hand: the batch's rows alone, their moments corrected by each row's own count of updates."""

    def __init__(self, case, width):
        self.rate, self.decay = case["embedding_rate"], case["embedding_decay"]
        self.table, self.first, self.second = (torch.zeros(case["table_rows"], width) for _ in range(3))
        self.updates = torch.zeros(case["table_rows"], dtype=torch.float64)

    def __call__(self, ids):
        self.rows, place = torch.unique(ids, return_inverse=True)
        self.leaf = self.table[self.rows].requires_grad_(torch.is_grad_enabled())
        return self.leaf[place]

    def zero_grad(self):
        pass

    def step(self):
        rows, gradient = self.rows, self.leaf.grad
        count = self.updates[rows] + 1
        step = (self.rate / (1 - 0.9 ** count)).to(gradient.dtype).unsqueeze(1)
        root = (1 / (1 - 0.999 ** count).sqrt()).to(gradient.dtype).unsqueeze(1)
        first = 0.9 * self.first[rows] + 0.1 * gradient
        second = 0.999 * self.second[rows] + 0.001 * gradient * gradient
        with torch.no_grad():
            self.table[rows] = (1 - self.rate * self.decay) * self.leaf - step * first / (second.sqrt() * root + 1e-8)
        self.first[rows], self.second[rows], self.updates[rows] = first, second, count


class RoundedAdam:
    """torch.optim.Adam, but with 1 - beta computed from float32's beta: .000999987 for .001."""

    def __init__(self, parameters, lr):
        self.parameters, self.rate, self.updates = list(parameters), lr, 0
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in self.parameters]

    def zero_grad(self):
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self):
        self.updates += 1
        keep = [float(numpy.float32(beta)) for beta in (0.9, 0.999)]
        take = [1 - beta for beta in keep]
        step, root = self.rate / (1 - 0.9 ** self.updates), 1 / (1 - 0.999 ** self.updates) ** 0.5
        for parameter, (first, second) in zip(self.parameters, self.moments):
            gradient = parameter.grad
            first.mul_(keep[0]).add_(gradient, alpha=take[0])
            second.mul_(keep[1]).addcmul_(gradient, gradient, value=take[1])
            parameter.sub_(step * first / (second.sqrt() * root + 1e-8))


class Training:
    def __init__(self, case, first, form):
        kind, *more = form.split("+")
        self.type = torch.float64 if "double" in more else torch.float32
        torch.set_default_dtype(self.type)
        self.net = BACKBONES[case["backbone"]](case, case["dropout"] if "dropout" in more else 0.0)
        self.net.fill(first)
        width = case["embedding_width"] * self.net.sets
        self.embeddings = LazyEmbeddings(case, width) if kind == "lazy" else Embeddings(case, width, kind == "sparse")
        parameters = self.net.parameters()
        rounded = "rounded" in more
        self.adam = RoundedAdam(parameters, case["rate"]) if rounded else torch.optim.Adam(parameters, case["rate"], fused=True)

    def step(self, batch):
        self.net.train()
        outputs = self.net(self.embeddings(batch["ids"]), batch["dense"])
        losses = self.net.losses(outputs, batch["labels"], batch["weights"]).mean(0)
        self.adam.zero_grad()
        self.embeddings.zero_grad()
        losses.sum().backward()
        self.adam.step()
        self.embeddings.step()
        return losses.tolist()

    def log_loss(self, rows):
        self.net.eval()
        with torch.no_grad():
            p = self.net.scores(self.net(self.embeddings(rows["ids"]), rows["dense"])).double().clamp(1e-7, 1 - 1e-7)
            return F.binary_cross_entropy(p, rows["labels"].double()).item()


class Peer:
    def __init__(self):
        torch.set_num_threads(1)
        torch.manual_seed(1)  # Of dropout.

    def load(self, folder):
        with open(folder + "/case.json") as file:
            self.case = json.load(file)
        self.first = read_safetensors(folder + "/first.safetensors")
        rows = read_safetensors(folder + "/rows.safetensors")
        self.order = rows.pop("order").long()
        rows["ids"] = rows["ids"].long()
        rows["weights"] = torch.ones_like(rows["labels"])
        self.rows = rows
        self.training = {}
        self.batches = {}
        return f"torch={torch.__version__}"

    def epoch(self, number):  # Its batches.
        number %= len(self.order)
        if number not in self.batches:
            size, end = self.case["batch"], self.case["train_end"]
            parts = [self.order[number][at:min(at + size, end)] for at in range(0, end, size)]
            self.batches = {number: [{name: values[part] for name, values in self.rows.items()} for part in parts]}
        return self.batches[number]

    def losses(self, form, count):
        training, losses = Training(self.case, self.first, form), []
        while len(losses) < int(count):
            for batch in self.epoch(0)[:int(count) - len(losses)]:
                losses.append(training.step({name: values if name == "ids" else values.to(training.type)
                                             for name, values in batch.items()}))
        return " ".join(f"{loss:.9g}" for step in losses for loss in step)

    def time(self, form, seconds):
        if form not in self.training:
            self.training[form] = Training(self.case, self.first, form)
            self.training[form].step(self.epoch(0)[0])  # For nothing: memory.
        training, batches, done = self.training[form], self.epoch(0), 0
        cpu, wall = time.process_time(), time.monotonic()
        while done < 1 or time.monotonic() - wall < float(seconds):
            training.step(batches[done % len(batches)])
            done += 1
        return f"steps={done} cpu_s={time.process_time() - cpu:.6f} wall_s={time.monotonic() - wall:.6f}"

    def looks(self, form, epochs, looks):
        training, losses = Training(self.case, self.first, form), []
        behind = {name: values[self.case["train_end"]:] for name, values in self.rows.items()}
        for epoch in range(int(epochs)):
            batches = self.epoch(epoch)
            for i, batch in enumerate(batches):
                training.step(batch)
                if (i + 1) * int(looks) // len(batches) != i * int(looks) // len(batches):
                    losses.append(training.log_loss(behind))
        return " ".join(f"{loss:.9g}" for loss in losses)


def main():
    peer = Peer()
    print("ready", flush=True)
    for line in sys.stdin:
        command, *arguments = line.split()
        print(getattr(peer, command)(*arguments), flush=True)


if __name__ == "__main__":
    main()
