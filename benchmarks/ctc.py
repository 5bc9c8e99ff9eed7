"""LineCNN, which reads frames, against LineCNNSimple, which reads windows: `python benchmarks/ctc.py [--steps 3] [--threads 2]`.

A training step (forward, loss, backward, AdamW) and inference, on the same eight batches of lines of `EMNISTLines`, both networks
with the same `conv_dim`, channels last, in one process that keeps its memory as a training run does. The sides take turns, all
batches each time, so that a busy machine slows both alike; the ratio is the median over turns. The first turn does not count:
PyTorch compiles its convolutions for each new shape, and a run has met all shapes within its first batches. With one thread it is
processor time that counts, which other processes change little; with more, the clock on the wall.
"""

import argparse
import statistics
import time

import torch

from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.lit_models.base import BaseLitModel
from text_recognizer.lit_models.ctc import CTCLitModel
from text_recognizer.models.line_cnn import LineCNN
from text_recognizer.models.line_cnn_lstm import LineCNNLSTM
from text_recognizer.models.line_cnn_simple import LineCNNSimple
from text_recognizer.training.allocator import keep_memory

WANTED = {"train": 3.0, "infer": 10.0}


class Side:
    """A network with the loss and the optimizer that it is trained with."""

    def __init__(self, network, lit, config, conv_dim):
        torch.manual_seed(0)
        self.lit = lit(network(config, {"conv_dim": conv_dim}), {"optimizer": "AdamW"})
        self.lit.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.lit.parameters())

    def train(self, x, y):
        self.lit.train()
        self.optimizer.zero_grad()
        self.lit.loss_of(self.lit(x), y).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def infer(self, x, y):
        self.lit.eval()
        return self.lit.labels_of(self.lit(x))


def turns(sides, task, batches, steps, clock):
    """Seconds of each side for all batches, `steps` times, after one time that does not count."""
    times = {name: [] for name in sides}
    for step in range(steps + 1):
        for name, side in sides.items():
            start = clock()
            for batch in batches:
                getattr(side, task)(*batch)
            if step:
                times[name].append(clock() - start)
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=3, help="turns that count")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--conv_dim", type=int, default=64)
    parser.add_argument("--threads", type=int, default=min(2, torch.get_num_threads()))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_memory()
    lines = EMNISTLines(source="glyphs", text_source="python", num_train=8 * args.batch_size, num_val=1, num_test=1)
    lines.prepare_data()
    lines.setup()
    batches = [lines.data_train.__getitems__(range(k * args.batch_size, (k + 1) * args.batch_size)) for k in range(8)]
    sides = {"LineCNNSimple": Side(LineCNNSimple, BaseLitModel, lines.config(), args.conv_dim),
             "LineCNN": Side(LineCNN, CTCLitModel, lines.config(), args.conv_dim),
             "LineCNNLSTM": Side(LineCNNLSTM, CTCLitModel, lines.config(), args.conv_dim)}

    model = sides["LineCNN"].lit.model.eval()
    x = batches[0][0]
    with torch.no_grad():
        packed = model(x)
    plain = model(x.clone().requires_grad_()).detach()
    print(f"lines on one strip against lines as they are: largest difference of logits {(packed - plain).abs().max().item():.1e}")
    clock, unit = (time.process_time, "processor time") if args.threads == 1 else (time.perf_counter, "wall clock")
    print(f"conv_dim {args.conv_dim}, {args.batch_size} lines a batch, {args.threads} threads, {unit}")
    reached = {}
    for task in WANTED:
        times = turns(sides, task, batches, args.steps, clock)
        for name, seconds in times.items():
            ratio = statistics.median(simple / own for simple, own in zip(times["LineCNNSimple"], seconds))
            size = sum(parameter.numel() for parameter in sides[name].lit.model.parameters())
            speed = len(batches) * args.batch_size / statistics.median(seconds)
            print(f"{task} {name:14} {speed:8.0f} lines/s  {ratio:6.2f} times LineCNNSimple"
                  f"  ({size:,} parameters)", flush=True)
            if name == "LineCNN":
                reached[task] = ratio
    for task, ratio in reached.items():
        verdict = "reached" if ratio >= WANTED[task] else "NOT reached"
        print(f"{task}: LineCNN {ratio:.2f} times LineCNNSimple, wanted {WANTED[task]:g}: {verdict}")


if __name__ == "__main__":
    main()
