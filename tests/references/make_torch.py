"""Write `torch.npz`: a trained network of PyTorch, and what it puts out.

PyTorch is too heavy for the project's environments. In one of its own, with `torch` and `numpy`:

    python tests/references/make_torch.py
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

WIDTHS = (3, 5, 4, 2)


def perceptron():
    """Return tanh layers between linear ones."""
    layers = [torch.nn.Linear(*pair) for pair in pairwise(WIDTHS)]
    between = [part for layer in layers for part in (layer, torch.nn.Tanh())]
    return torch.nn.Sequential(*between[:-1])


def convolution():
    """Return a convolution of images of 6 x 6 pixels, and a linear layer."""
    return torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 6, 6)),
        torch.nn.Conv2d(1, 2, 3),
        torch.nn.Softplus(),
        torch.nn.Flatten(),
        torch.nn.Linear(2 * 4 * 4, 3),
    )


def trained(network, x):
    """Train a network for some steps, and return it."""
    target = torch.sin(2 * x[:, :1]) + x[:, 1:2] ** 2
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        ((network(x) - target) ** 2).mean().backward()
        optimizer.step()
    return network


def main():
    """Write the file beside this script."""
    torch.manual_seed(0)
    found = {}
    for name, network, columns in (("mlp", perceptron(), 3), ("conv", convolution(), 36)):
        x = torch.randn(20, columns)
        network = trained(network, x)
        arrays = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}
        found |= {f"{name}/{key}": array for key, array in arrays.items()}
        # In double precision, of weights that are known in single precision.
        outputs = network.double()(x.double()).detach().numpy()
        found |= {f"{name}/x": x.numpy(), f"{name}/outputs": outputs}
    np.savez_compressed(Path(__file__).parent / "torch.npz", **found)


if __name__ == "__main__":
    main()
