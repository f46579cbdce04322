"""Write a small convolutional network for 8x8 digits, and its samples, to be trained in slices by isthmus.

Nothing is trained here: the job's ``slices`` say how (docs/slices-that-learn.md).
"""

import argparse
import json
import os

import mxnet as mx
import numpy as np
from mxnet import gluon
from mxnet.gluon import nn


def load(folder):
    """Return images ``[N, 1, 8, 8]`` scaled to 0..1 and labels ``[N]``, both float32."""
    table = np.loadtxt(os.path.join(folder, "digits.csv"), delimiter=",", dtype="float32", ndmin=2)
    return table[:, :64].reshape(-1, 1, 8, 8) / 16, table[:, 64]


def build_network():
    net = nn.HybridSequential(prefix="digits_")
    with net.name_scope():
        net.add(
            nn.Conv2D(16, 3, padding=1),
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.Conv2D(32, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Flatten(),
            nn.Dense(64, activation="relu"),
            nn.Dense(10),
        )
    return net


def save(folder, symbol, stored, shapes):
    """Leave what ``net.export`` leaves, and the inputs' shapes."""
    os.makedirs(folder, exist_ok=True)
    symbol.save(os.path.join(folder, "model-symbol.json"))
    mx.nd.save(os.path.join(folder, "model-0000.params"), stored)
    with open(os.path.join(folder, "model-shapes.json"), "w") as file:
        json.dump(shapes, file)


def write(args):
    mx.random.seed(args.seed)
    np.random.seed(args.seed)
    images, labels = load(args.train)
    net = build_network()
    net.initialize(mx.init.Xavier())
    net(mx.nd.array(images[:4]))
    served = net(mx.sym.var("data"))
    whole = gluon.loss.SoftmaxCrossEntropyLoss()(served, mx.sym.var("label"))
    statistics = set(whole.list_auxiliary_states())
    stored = {
        ("aux:" if name in statistics else "arg:") + name: value.data()
        for name, value in net.collect_params().items()
    }
    data = {"name": "data", "shape": [args.batch_size, 1, 8, 8]}
    save(
        os.path.join(args.slices, "whole"),
        whole,
        stored,
        [data, {"name": "label", "shape": [args.batch_size]}],
    )
    save(os.path.join(args.slices, "served"), served, stored, [dict(data, shape=[1, 1, 8, 8])])
    np.save(os.path.join(args.slices, "data.npy"), images)
    np.save(os.path.join(args.slices, "label.npy"), labels)


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--slices", default=os.environ.get("ISTHMUS_SLICES"))
    return parser.parse_args()


if __name__ == "__main__":
    write(parse_arguments())
