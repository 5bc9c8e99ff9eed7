"""LineCNNSimple against the course's loop over 32 windows: `python benchmarks/line_cnn.py [--steps 6] [--batch_size 32]`.

A training step (forward, loss, backward, Adam) and inference, on lines of `EMNISTLines`, of whose windows more than half are
blank. Every side lives in a process of its own, because memory settings hold for a process; the sides take turns, so that a
busy machine slows all of them alike, and the ratio is the median over turns. On a CPU the sides are:

loop      the course's: one window after another, plain memory format, malloc as it comes
model     LineCNNSimple, channels last as `BaseLitModel` sets it, malloc as it comes
keep      the same, in a process that `make_trainer` has told to keep its memory: what a training run of ours is

On a GPU, if there is one: the loop, LineCNNSimple reading every window in one batch, and LineCNNSimple as it is, in float32
and in bfloat16. First of all the logits of the two are compared.
"""

import argparse
import multiprocessing
import statistics
import time

import torch
import torch.nn.functional as F

from text_recognizer.data.emnist_lines import EMNISTLines
from text_recognizer.models.line_cnn_simple import LineCNNSimple
from text_recognizer.training.allocator import keep_memory

WANTED = {("cpu", "train"): 2.2, ("cpu", "infer"): 3.0, ("cuda", "train"): 8.0, ("cuda", "infer"): 8.0}


def loop_over_windows(cnn, x, width=28, stride=28):
    """The course's forward: the CNN once for each window."""
    B, S = len(x), (x.shape[3] - width) // stride + 1
    logits = torch.zeros(B, cnn.num_classes, S, device=x.device)
    for s in range(S):
        logits[:, :, s] = cnn(x[:, :, :, stride * s : stride * s + width])
    return logits


def all_windows(cnn, x, width=28):
    """Every window in one batch, blank or not."""
    windows = x.unfold(3, width, width).permute(0, 3, 1, 2, 4)
    return cnn(windows.flatten(0, 1).to(memory_format=torch.channels_last)).unflatten(0, windows.shape[:2]).transpose(1, 2)


class Side:
    """One way to read lines: a model, its optimizer, and batches to go through."""

    def __init__(self, kind, config, batches, device, dtype):
        torch.manual_seed(0)
        self.kind, self.batches, self.device, self.dtype, self.turn = kind, batches, device, dtype, 0
        self.model = LineCNNSimple(config).to(device)
        if kind != "loop":
            self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def read(self, x):
        with torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32):
            if self.kind == "loop": return loop_over_windows(self.model.cnn, x)
            return all_windows(self.model.cnn, x) if self.kind == "all" else self.model(x)

    def train(self, x, y):
        self.model.train()
        self.optimizer.zero_grad()
        F.cross_entropy(self.read(x).float(), y).backward()
        self.optimizer.step()

    @torch.inference_mode()
    def infer(self, x, y):
        self.model.eval()
        return self.read(x).float()

    def seconds(self, task):
        """The time of one step on the next batch."""
        x, y = self.batches[self.turn % len(self.batches)]
        self.turn += 1
        if self.device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        getattr(self, task)(x, y)
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def work(pipe, kind, threads, *settings):
    """A process that is one side: it answers each task with its seconds until it is told None."""
    torch.set_num_threads(threads)
    if kind == "keep":
        keep_memory()
    side = Side(kind, *settings)
    while (task := pipe.recv()) is not None:
        pipe.send(side.seconds(task))


def turns(ask, sides, task, steps, warm_up):
    """Seconds of each side, `steps` turns, after some that do not count."""
    times = {side: [] for side in sides}
    for step in range(steps + warm_up):
        for side in sides:
            seconds = ask(side, task)
            if step >= warm_up:
                times[side].append(seconds)
    return times


def report(device, dtype, task, times, windows):
    """A line for each side, with its ratio to the loop; the ratio of the last, which is the package as it is used."""
    for side, seconds in times.items():
        ratio = statistics.median(loop / own for loop, own in zip(times["loop"], seconds))
        print(f"{device} {dtype:8} {task} {side:6} {1000 * statistics.median(seconds):8.1f} ms "
              f"{windows / statistics.median(seconds):10.0f} windows/s   {ratio:5.2f} times the loop", flush=True)
    return ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="turns that count")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--threads", type=int, default=min(2, torch.get_num_threads()))
    parser.add_argument("--source", default="glyphs", help="images to write lines with: as --data_source")
    args = parser.parse_args()

    lines = EMNISTLines(source=args.source, num_train=8 * args.batch_size, num_val=1, num_test=1)
    lines.prepare_data()
    lines.setup()
    batches = [lines.data_train.__getitems__(range(k * args.batch_size, (k + 1) * args.batch_size)) for k in range(8)]
    x, y = batches[0]
    blank = (torch.cat([x for x, _ in batches]).unfold(3, 28, 28) == 0).all(dim=4).all(dim=2).float().mean().item()
    print(f"{lines.emnist.source}\n{args.batch_size} lines a batch, 32 windows a line, {blank:.0%} of them blank; "
          f"{args.threads} threads")

    config, windows, found = lines.config(), args.batch_size * 32, {}
    loop, ours = (Side(kind, config, batches, "cpu", torch.float32) for kind in ("loop", "model"))
    print(f"largest difference of logits {(loop.infer(x, y) - ours.infer(x, y)).abs().max().item():.1e}, "
          f"their size {loop.infer(x, y).abs().mean().item():.2f}")

    context, processes, pipes = multiprocessing.get_context("spawn"), [], {}
    for kind in ("loop", "model", "keep"):
        pipes[kind], theirs = context.Pipe()
        settings = (theirs, kind, args.threads, config, batches, "cpu", torch.float32)
        processes.append(context.Process(target=work, args=settings, daemon=True))
        processes[-1].start()

    def ask(side, task):
        pipes[side].send(task)
        return pipes[side].recv()

    for task in ("train", "infer"):
        times = turns(ask, list(pipes), task, args.steps, warm_up=1)
        found["cpu", task] = report("cpu ", "float32", task, times, windows)
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()

    if torch.cuda.is_available():
        torch.backends.cudnn.benchmark = True  # as make_trainer has it
        print(torch.cuda.get_device_name())
        batches = [(x.cuda(), y.cuda()) for x, y in batches]
        for dtype in (torch.float32, torch.bfloat16):
            sides = {kind: Side(kind, config, batches, "cuda", dtype) for kind in ("loop", "all", "model")}
            for task in ("train", "infer"):
                def ask_here(side, task, sides=sides):
                    return sides[side].seconds(task)

                times = turns(ask_here, list(sides), task, 10 * args.steps, warm_up=20)
                found["cuda", task] = report("cuda", str(dtype)[6:], task, times, windows)

    print()
    for (device, task), ratio in found.items():
        print(f"{device} {task}: {ratio:.2f} times the loop, wanted {WANTED[device, task]}")


if __name__ == "__main__":
    main()
