"""Train a small convolutional network on Fashion-MNIST: an ordinary SageMaker MXNet script.

The learning rate rises over the first quarter of the training and then falls to zero (one cycle:
Smith and Topin, "Super-Convergence", 2017): three epochs do.
"""

import argparse
import gzip
import json
import os
import shutil
import struct

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn


def read_idx(path):
    """Return the array of a gzipped IDX file (big-endian header: type, rank, then each dimension)."""
    with gzip.open(path) as file:
        rank = file.read(4)[3]
        shape = struct.unpack(f">{rank}I", file.read(4 * rank))
        return np.frombuffer(file.read(), dtype="uint8").reshape(shape)


def load(folder):
    """Return images ``[N, 1, 28, 28]`` scaled to 0..1 and labels ``[N]``, both float32."""
    images = read_idx(os.path.join(folder, "images.idx.gz"))
    labels = read_idx(os.path.join(folder, "labels.idx.gz"))
    return images[:, None].astype("float32") / 255, labels.astype("float32")


def build_network():
    net = nn.HybridSequential()
    for channels in (32, 64):
        net.add(
            nn.Conv2D(channels, 3, padding=1, use_bias=False),
            nn.MaxPool2D(2),
            nn.BatchNorm(),
            nn.Activation("relu"),
        )
    net.add(nn.Flatten(), nn.Dense(128, activation="relu"), nn.Dropout(0.3), nn.Dense(10))
    return net


def accuracy(net, images, labels, batch_size=1000):
    right = 0
    for start in range(0, len(images), batch_size):
        scores = net(mx.nd.array(images[start : start + batch_size])).asnumpy()
        right += int((scores.argmax(axis=1) == labels[start : start + batch_size]).sum())
    return right / len(images)


def learning_rate(progress, peak):
    """One cycle: up over the first quarter, then down to zero; ``progress`` runs from 0 to 1."""
    return peak * (progress / 0.25 if progress < 0.25 else (1 - progress) / 0.75)


def save_checkpoint(folder, epoch, net, trainer):
    """Keep what the next epoch starts from: beside the older one first, so that one is always complete."""
    beside = os.path.join(folder, "next.new")
    shutil.rmtree(beside, ignore_errors=True)
    os.makedirs(beside)
    net.save_parameters(os.path.join(beside, "net.params"))
    trainer.save_states(os.path.join(beside, "trainer.states"))
    older = completed(folder)
    os.rename(beside, os.path.join(folder, f"epoch-{epoch}"))
    if older:
        shutil.rmtree(os.path.join(folder, f"epoch-{older}"))


def completed(folder):
    """Return how many epochs the newest checkpoint has behind it."""
    names = os.listdir(folder) if folder and os.path.isdir(folder) else []
    return max([int(name[6:]) for name in names if name.startswith("epoch-")], default=0)


def load_checkpoint(folder, epoch, net, trainer):
    path = os.path.join(folder, f"epoch-{epoch}")
    net.load_parameters(os.path.join(path, "net.params"))
    trainer.load_states(os.path.join(path, "trainer.states"))


def train(args):
    mx.random.seed(args.seed)
    np.random.seed(args.seed)
    images, labels = load(args.train)
    net = build_network()
    net.initialize(mx.init.Xavier())
    net.hybridize(static_alloc=True, static_shape=True)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam")
    steps = len(images) // args.batch_size
    first = completed(args.checkpoint_dir)
    if first:
        load_checkpoint(args.checkpoint_dir, first, net, trainer)
    for epoch in range(first, args.epochs):
        # Each epoch has a seed of its own: one that is started again draws the same numbers.
        mx.random.seed(args.seed + epoch)
        np.random.seed(args.seed + epoch)
        order = np.random.permutation(len(images))
        total = 0.0
        for step in range(steps):
            batch = order[step * args.batch_size : (step + 1) * args.batch_size]
            progress = (epoch * steps + step) / (args.epochs * steps)
            trainer.set_learning_rate(learning_rate(progress, args.learning_rate))
            with autograd.record():
                loss = loss_of(net(mx.nd.array(images[batch])), mx.nd.array(labels[batch]))
            loss.backward()
            trainer.step(args.batch_size)
            total += float(loss.mean().asscalar())
        if args.checkpoint_dir:
            save_checkpoint(args.checkpoint_dir, epoch + 1, net, trainer)
        print(f"epoch={epoch + 1} loss={total / steps:.4f}", flush=True)
    if args.test:
        print(f"test_accuracy={accuracy(net, *load(args.test)):.4f}", flush=True)
    return net


def save(net, model_dir):
    """Leave the files that SageMaker's MXNet images look for."""
    net.export(os.path.join(model_dir, "model"))
    with open(os.path.join(model_dir, "model-shapes.json"), "w") as shapes:
        json.dump([{"name": "data", "shape": [1, 1, 28, 28]}], shapes)


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.006)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--checkpoint-dir", default=os.environ.get("SM_CHECKPOINT_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    save(train(arguments), arguments.model_dir)
