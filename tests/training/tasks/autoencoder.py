"""An autoencoder on pictures: no text, no tokenizer, networks of its own, a pipeline as its checkpoint."""

from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import nn

from kun.data.described import Counts
from kun.hub.pipeline import save_pipeline
from kun.networks.network import Network
from kun.training.feed import OrderedFeed
from kun.training.networks import Networks
from kun.training.task import Evaluation, Loss, Plot, Task


class Half(Network):
    def __init__(self, inside, outside):
        super().__init__()
        self.config, self.map = SimpleNamespace(to_hf=dict), nn.Linear(inside, outside)


class Pictures:
    def __init__(self, folder):
        shades = [np.asarray(Image.open(file)) for file in sorted(Path(folder).glob("*.png"))]
        self.pixels = torch.tensor(np.stack(shades) / 255).float().flatten(1)
        self.digest, self.counts = sha256(self.pixels.numpy()).hexdigest(), Counts(rows=len(shades))

    def __len__(self):
        return len(self.pixels)


class Autoencoder(Task):
    name, stages, unit, has_model = "autoencoder", ("autoencoder",), "pictures", False

    def networks(self, open):
        torch.manual_seed(open.job.seed)
        return Networks(open.placed(nn.ModuleDict({"encoder": Half(64, 8), "decoder": Half(8, 64)})))

    def feed(self, open, networks):
        data = Pictures(open.job.data.train)
        return OrderedFeed(data, open.job.batch, open.job.seed, lambda rows: {"pixels": data.pixels[rows]})

    def loss(self, networks, batch):
        encoder, decoder = networks.trained["encoder"], networks.trained["decoder"]
        made = decoder.map(encoder.map(batch["pixels"]).sigmoid()).sigmoid()
        return Loss((made - batch["pixels"]).square().sum(), len(made))

    def evaluate(self, networks):
        norm = float(networks.trained["encoder"].map.weight.norm())
        return Evaluation({"norm": norm}, plots=[Plot("weights", {"norm": ([0.0, 1.0], [norm, norm])})])

    def saved(self, networks):
        return lambda folder, lineage: save_pipeline(folder, dict(networks.trained.items()), lineage=lineage)
