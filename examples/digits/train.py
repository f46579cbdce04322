"""Train a small convolutional network on 8x8 digits: an ordinary SageMaker MXNet script.

It runs as it is on a laptop (``python train.py --train data/train --test data/test --model-dir out``),
on a rig and on SageMaker's MXNet image (Python 3.8).
"""

import argparse
import json
import os
import shutil

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn


def load(folder):
    """Return images ``[N, 1, 8, 8]`` scaled to 0..1 and labels ``[N]``, both float32."""
    table = np.loadtxt(os.path.join(folder, "digits.csv"), delimiter=",", dtype="float32", ndmin=2)
    return table[:, :64].reshape(-1, 1, 8, 8) / 16, table[:, 64]


def build_network():
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(16, 3, padding=1),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Conv2D(32, 3, padding=1),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.MaxPool2D(2),
        nn.Conv2D(64, 3, padding=1, activation="relu"),
        nn.Flatten(),
        nn.Dense(64, activation="relu"),
        nn.Dense(10),
    )
    return net


def accuracy(net, images, labels):
    return float((net(mx.nd.array(images)).asnumpy().argmax(axis=1) == labels).mean())


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
    net.hybridize()
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), "adam", {"learning_rate": args.learning_rate})
    first = completed(args.checkpoint_dir)
    if first:
        load_checkpoint(args.checkpoint_dir, first, net, trainer)
    for epoch in range(first, args.epochs):
        # Each epoch has a seed of its own: one that is started again draws the same numbers.
        mx.random.seed(args.seed + epoch)
        np.random.seed(args.seed + epoch)
        order = np.random.permutation(len(images))
        total = 0.0
        for start in range(0, len(order), args.batch_size):
            batch = order[start : start + args.batch_size]
            with autograd.record():
                loss = loss_of(net(mx.nd.array(images[batch])), mx.nd.array(labels[batch]))
            loss.backward()
            trainer.step(len(batch))
            total += float(loss.sum().asscalar())
        if args.checkpoint_dir:
            save_checkpoint(args.checkpoint_dir, epoch + 1, net, trainer)
        print(f"epoch={epoch + 1} loss={total / len(images):.4f}", flush=True)
    if args.test:
        print(f"test_accuracy={accuracy(net, *load(args.test)):.4f}", flush=True)
    return net


def save(net, model_dir):
    """Leave the files that SageMaker's MXNet images look for."""
    net.export(os.path.join(model_dir, "model"))
    with open(os.path.join(model_dir, "model-shapes.json"), "w") as shapes:
        json.dump([{"name": "data", "shape": [1, 1, 8, 8]}], shapes)


def parse_arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    parser.add_argument("--checkpoint-dir", default=os.environ.get("SM_CHECKPOINT_DIR"))
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--test", default=os.environ.get("SM_CHANNEL_TEST"))
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_arguments()
    save(train(arguments), arguments.model_dir)
