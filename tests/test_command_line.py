"""The training command as it is typed: what it prints, what it leaves behind, and what it refuses."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, run_python

from text_recognizer.checkpoints import read_checkpoint
from text_recognizer.errors import UserError
from text_recognizer.training.command_line import parse
from text_recognizer.training.run_experiment import main
from text_recognizer.training.util import load_run

SCRIPT = ROOT / "training" / "run_experiment.py"
# A narrow network on a fiftieth of the drawn characters: seconds, and it still learns.
SHORT = ["--model_class", "CNN", "--data_class", "EMNIST", "--data_source", "glyphs", "--data_fraction", "0.02",
         "--conv_dim", "8", "--gpus", "0"]
LINES = ["--model_class", "LineCNNSimple", "--data_class", "EMNISTLines", "--data_source", "glyphs", "--batch_size", "32",
         "--num_train", "64", "--num_val", "32", "--num_test", "32", "--max_length", "8", "--conv_dim", "4", "--gpus", "0"]
BEST = re.compile(r"Best model saved at: (\S*training/logs/lightning_logs/version_\d+/"
                  r"epoch=\d{4}-validation\.loss=\d+\.\d{3}\.ckpt)$")


def command(*args, cwd, **environment):
    """The script in a process of its own."""
    return run_python(SCRIPT, *args, cwd=cwd, **{"OMP_NUM_THREADS": "1", **environment})


def best_of(printed: str) -> Path:
    """The checkpoint that the last line names."""
    found = BEST.search(printed.strip().splitlines()[-1])
    assert found, printed[-500:]
    return Path(found[1])


def test_score(printed: str, name: str = "test/acc") -> float:
    """A number of the test table."""
    return float(re.search(rf"{name}\s+([\d.e-]+)", printed)[1])


test_score.__test__ = False


def inside(*args, cwd, capsys, monkeypatch) -> str:
    """The same program in this process: what it printed on standard output."""
    monkeypatch.chdir(cwd)
    main([*map(str, args)])
    return capsys.readouterr().out


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs in a folder of its own: (folder, what it printed, the bar, the checkpoint)."""
    folder = tmp_path_factory.mktemp("run")
    done = command(*SHORT, "--max_epochs", 2, "--lr", 0.003, "--batch_size", 32, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder, done.stdout, done.stderr, best_of(done.stdout)


def test_a_run_prints_what_the_course_says(trained):
    _, out, bar, best = trained
    assert out.count("Source: glyphs") == 1 and "EMNIST Dataset" in out
    parts = [[word.strip() for word in line.split("|")] for line in bar.splitlines() if line.count("|") >= 4]
    assert ["0", "model", "CNN", "212 K"] in [part[:4] for part in parts], "Lightning's summary"
    assert ["model.conv1", "ConvBlock", "80"] in [part[1:4] for part in parts] and "model.conv1.conv" not in bar, "to depth 2"
    assert 0.03 < test_score(out) <= 1 and test_score(out, "test/loss") > 0
    last = [line for line in re.split(r"[\r\n]", bar) if line.startswith("Epoch")][-1]
    for name in ("loss=", "validation/loss=", "validation/acc="): assert name in last
    assert "Epoch 2/2: 100%" in last
    lines = [line for line in re.split(r"[\r\n]", bar) if line.strip()]
    known = ("Epoch", "Validating", "Testing", "Drawing glyphs", "   | Name", "------")
    noise = [line for line in lines if not line.startswith(known) and not re.match(r"\d+ +\||[\d.]+( [KM]|  ) +[A-Z]", line)]
    assert not noise, noise
    assert best.is_file()


def test_the_posts_way_to_a_checkpoint(trained):
    folder, _, _, best = trained
    command("--load_checkpoint", best, "--limit_train_batches", 1, cwd=folder)  # a later run, after which there are two
    found = subprocess.run(r"find training/logs/lightning_logs | grep \.ckpt$ | sort -Vr | head -n 1", shell=True, cwd=folder,
                           capture_output=True, text=True).stdout.strip()
    assert re.search(r"/version_1/epoch=0000-validation\.loss=\d+\.\d{3}\.ckpt$", found), found
    assert (folder / found).parent.joinpath("last.state").is_file()


def in_a_terminal(*args, cwd, columns=80) -> list[str]:
    """What the script draws in a terminal of so many columns, line by line."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([sys.executable, SCRIPT, *map(str, args)], cwd=cwd, stdout=subprocess.DEVNULL, stderr=its,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    os.close(its)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux says so when the other side has closed
        while part := os.read(ours, 4096): drawn += part
    os.close(ours)
    assert process.wait() == 0, drawn[-2000:]
    return [line for line in re.split(r"[\r\n]|\x1b\[A", drawn.decode()) if line.strip()]


def test_in_80_columns_the_bar_shows_what_validation_found(tmp_path):
    drawn = in_a_terminal(*SHORT, "--batch_size", 8, "--max_epochs", 2, cwd=tmp_path)
    lines = [line for line in drawn if line.startswith("Epoch")]
    number = r"\d\.\d{3}"
    assert re.match(rf"Epoch 2/2: 100% loss={number}, validation/loss={number}, validation/acc={number} \|", lines[-1]), lines[-1]
    assert max(map(len, lines)) <= 80


def test_a_run_leaves_what_is_needed_to_go_on(trained):
    folder, out, _, best = trained
    run = best.parent
    assert not list((folder).rglob("*.part*"))
    assert (run / "metrics.csv").is_file()
    checkpoint = torch.load(best, weights_only=True)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["conv_dim"] == 8 and config["model_class"] == "CNN" and config["max_epochs"] == 2
    assert checkpoint["hyper_parameters"]["args"] == {k: v for k, v in config.items() if not isinstance(v, list)}

    lit_model, data = load_run(best)
    data.prepare_data()
    data.setup("test")
    right = total = 0
    for x, y in data.test_dataloader():
        right, total = right + (lit_model.predict(x) == y).sum().item(), total + len(y)
    assert right / total == pytest.approx(test_score(out), abs=1e-6)
    assert data.batch_size == 32 and load_run(run)[0].model.conv1.conv.out_channels == 8


def test_load_checkpoint_with_another_batch_size(trained):
    folder, out, _, best = trained
    done = command("--load_checkpoint", best, "--batch_size", 64, "--max_epochs", 1, cwd=folder)  # the rest is known
    assert done.returncode == 0, done.stderr[-2000:]
    again = best_of(done.stdout)
    assert again.parent != best.parent
    config = yaml.safe_load((again.parent / "config.yaml").read_text())
    assert (config["batch_size"], config["conv_dim"], config["lr"], config["data_fraction"]) == (64, 8, 0.003, 0.02)
    assert test_score(done.stdout) > test_score(out) - 0.05, "it begins where the other run ended"


def test_a_run_that_is_over_says_so(trained, capsys, monkeypatch):
    folder, _, _, best = trained
    text = inside("--ckpt_path", best.parent, cwd=folder, capsys=capsys, monkeypatch=monkeypatch)
    assert "Nothing was trained: the run has done its 2 epochs already. To go on, ask for more: --max_epochs 3" in text
    assert test_score(text) > 0, "and what there is, is tested"


def test_a_checkpoint_is_read_once_a_start(trained, capsys, monkeypatch):
    folder, _, _, best = trained
    read, load = [], torch.load
    monkeypatch.setattr(torch, "load", lambda path, *args, **kwargs: (read.append(Path(path)), load(path, *args, **kwargs))[1])
    for flag, path in (("--ckpt_path", best.parent / "last.state"), ("--load_checkpoint", best)):
        read.clear()
        inside(flag, path, "--max_epochs", 3, "--limit_train_batches", 1, cwd=folder, capsys=capsys, monkeypatch=monkeypatch)
        assert read.count(path) == 1, read


def test_it_goes_on_exactly_from_a_checkpoint(trained, capsys, monkeypatch):
    folder, out, _, best = trained
    last = best.parent / "last.state"
    assert read_checkpoint(last)["epoch"] == 1
    text = inside("--ckpt_path", best.parent, "--max_epochs", 3, cwd=folder, capsys=capsys, monkeypatch=monkeypatch)
    assert read_checkpoint(best_of(text).parent / "last.state")["epoch"] == 2
    straight = inside(*SHORT, "--max_epochs", 3, "--lr", 0.003, "--batch_size", 32, cwd=folder, capsys=capsys,
                      monkeypatch=monkeypatch)
    for name in ("test/acc", "test/loss"): assert test_score(text, name) == test_score(straight, name)


def test_lines(tmp_path, capsys, monkeypatch):
    text = inside(*LINES, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    for name in ("acc", "acc_padding_only", "char_acc", "cer", "loss"): assert test_score(text, f"test/{name}") >= 0
    assert best_of(text).is_file()


def test_overfit_two_batches(tmp_path, capsys, monkeypatch):
    text = inside(*SHORT, "--overfit_batches", 2, "--max_epochs", 25, "--batch_size", 8, "--lr", 0.01, "--fc_dropout", 0,
                  cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    assert "On the batches that it was trained on: accuracy 1.000" in text


def test_lr_find_trains_as_if_the_rate_had_been_typed(tmp_path, capsys, monkeypatch):
    few = [*SHORT, "--batch_size", 32, "--limit_train_batches", 6, "--limit_val_batches", 1, "--limit_test_batches", 1]
    for search, rate in ((["--lr_find", 50], "lr"), (["--lr_find", 50, "--one_cycle_max_lr", 0.5], "one_cycle_max_lr")):
        text = inside(*few, *search, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
        value = re.search(rf"training with --{rate} (\S+)$", text, re.MULTILINE)[1]
        found = best_of(text)
        assert (found.parent / "lr_find.png").read_bytes().startswith(b"\x89PNG") and 1e-5 < float(value) < 0.1
        config = yaml.safe_load((found.parent / "config.yaml").read_text())
        assert config[rate] == float(value) and "lr_find" not in config
        typed = best_of(inside(*few, f"--{rate}", value, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch))
        ours, theirs = read_checkpoint(found)["state_dict"], read_checkpoint(typed)["state_dict"]
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), "bit for bit the same run"


def test_augmentation_is_kept_with_the_run(tmp_path, capsys, monkeypatch):
    few = [*SHORT, "--batch_size", 32, "--limit_train_batches", 4, "--limit_val_batches", 1, "--limit_test_batches", 1]
    losses = []
    for more in ([], ["--augment", 1], ["--augment", 1]):
        text = inside(*few, *more, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
        losses.append(test_score(text, "test/loss"))
        assert read_checkpoint(best_of(text))["hyper_parameters"]["args"]["augment"] == (1.0 if more else 0.0)
    assert losses[1] == losses[2] != losses[0], "seeded, and it does something"


def test_fast_dev_run_leaves_nothing(tmp_path, capsys, monkeypatch):
    text = inside(*SHORT, "--fast_dev_run", cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    assert "test/acc" in text and "Best model" not in text
    assert not list(tmp_path.rglob("*.ckpt")) and not list(tmp_path.rglob("config.yaml"))


def test_stop_early(tmp_path, capsys, monkeypatch):
    text = inside(*SHORT, "--stop_early", 2, "--lr", 0, "--max_epochs", 30, "--limit_train_batches", 1, "--limit_val_batches", 1,
                  "--limit_test_batches", 1, cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    assert read_checkpoint(best_of(text).parent / "last.state")["epoch"] == 2, "one epoch, and two without improvement"


@pytest.mark.parametrize(("rate", "said"), [(1e30, True), (0.001, False)])
def test_a_loss_that_is_no_number_is_told(rate, said, tmp_path, capsys, monkeypatch):
    text = inside(*SHORT, "--lr", rate, "--limit_train_batches", 2, "--limit_val_batches", 1, "--limit_test_batches", 1,
                  cwd=tmp_path, capsys=capsys, monkeypatch=monkeypatch)
    assert ("validation/loss was never a number" in text) == said
    assert text.splitlines()[-1].startswith("Best model saved at: ")


def test_without_validation_the_latest_is_kept(tmp_path, capsys, monkeypatch):
    text = inside(*SHORT, "--limit_val_batches", 0, "--limit_train_batches", 2, "--limit_test_batches", 1, cwd=tmp_path,
                  capsys=capsys, monkeypatch=monkeypatch)
    assert text.strip().endswith("epoch=0000.ckpt")


def test_help_has_the_course_s_groups_in_their_order():
    done = run_python(SCRIPT, "--help", "--model_class", "LineCNNSimple", "--data_class", "EMNISTLines", COLUMNS="80")
    assert done.returncode == 0 and not done.stderr
    groups = ("Trainer Args", "Run Args", "Data Args", "Model Args", "LitModel Args")
    assert [line[:-1] for line in done.stdout.splitlines() if line.endswith(" Args:")] == list(groups)
    for flag in ("--max_epochs", "--overfit_batches", "--max_length", "--window_stride", "--one_cycle_max_lr", "--gpus"):
        assert f"  {flag} " in done.stdout
    assert max(len(group.splitlines()) for group in done.stdout.split("\n\n")) <= 50, "a group fits a screen"


def test_the_end_of_the_help_is_what_depends_on_the_classes():
    line = f"{sys.executable} {SCRIPT} --help --model_class CNN --data_class EMNIST | tail -n 25"
    shown = subprocess.run(line, shell=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}).stdout
    assert [text for text in shown.splitlines() if text.endswith(" Args:")] == ["Data Args:", "Model Args:", "LitModel Args:"]


def test_main_says_what_it_does():
    text = main.__doc__
    assert text.startswith("Train a network") and text.count("python training/run_experiment.py --") == 3
    for line in re.findall(r"run_experiment\.py (--.*)", text):
        if "--help" not in line and "--gpus 1" not in line: parse(line.split())


@pytest.mark.parametrize(("argv", "said"), [
    (["--model_class", "BARF"], "model_class: expected one of CNN, LineCNN, LineCNNLSTM, LineCNNSimple, MLP, ResCNN, or "
                                "module.Class, got 'BARF'"),
    (["--data_class", "EMINST"], "did you mean EMNIST?"),
    (["--batchsize", "3"], "unknown argument --batchsize; did you mean --batch_size?"),
    (["--lr", "quick"], "--lr: expected a number, got 'quick'"),
    (["--max_epochs", "2.5"], "--max_epochs: expected a whole number, got '2.5'"),
    (["--batch_size", "0"], "batch_size: expected a whole number of at least 1, got 0"),
    (["--optimizer", "Adamm"], "did you mean Adam"),
    (["--loss", "crossentropy"], "did you mean cross_entropy"),
    (["--precision", "17"], "17"),
    (["--strategy", "dpp"], "dpp"),
    (["--limit_train_batches", "1.5"], "1.5"),
    (["--val_check_interval", "0"], "--val_check_interval: expected a number above 0, got '0'"),
    (["--check_val_every_n_epoch", "0"], "--check_val_every_n_epoch: expected a number above 0, got '0'"),
    (["--devices", "999999999999"], "--devices: expected at most 1,024 devices, got 999999999999"),
    (["--conv_dim", "9" * 30], f"conv_dim: expected a whole number of at most {2**63 - 1}, got {'9' * 30}"),
    (["--fc_dropout", "nan"], "fc_dropout: expected a number in [0, 1), got nan"),
    (["--augment", "-1"], "augment: expected a number in [0, 3], got -1.0"),
    (["--lr_find", "3"], "lr_find: expected a whole number of at least 20, got 3"),
    (["--lr_find", "--gpus", "0", "--num_nodes", "2"], "--lr_find: expected one device"),
    (["--logger", "wandbb"], "--logger: expected one of csv, tensorboard, wandb, got 'wandbb'; did you mean wandb?"),
    (["--load_checkpoint", "gone.ckpt"], "found nothing at gone.ckpt"),
    (["--load_checkpoint", "a", "--ckpt_path", "b"], "got both"),
    (["--config", "gone.yaml"], "cannot read gone.yaml"),
    (["--data_source", "gone.zip"], "gone.zip"),
    (["surplus"], "unknown argument surplus"),
])
def test_what_is_wrong_is_said_in_one_line(argv, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop: main([*SHORT, *argv])
    err = capsys.readouterr().err
    assert stop.value.code == 2
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("run_experiment: error: ") and said in lines[0], err


def test_a_class_that_does_not_exist_from_the_shell(tmp_path):
    done = command("--model_class", "BARF", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr


def test_gpus(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(SystemExit): main([*SHORT, "--gpus", "2"])
    assert "--gpus: expected 0 (the CPU), got 2; this machine has no GPU that torch can use" in capsys.readouterr().err


def test_a_damaged_checkpoint(trained, tmp_path, capsys):
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(trained[3].read_bytes()[:-1000])
    with pytest.raises(SystemExit): main([*SHORT, "--load_checkpoint", str(broken)])
    assert "damaged" in capsys.readouterr().err


def test_a_checkpoint_of_another_width(trained, capsys):
    with pytest.raises(SystemExit): main(["--load_checkpoint", str(trained[3]), "--conv_dim", "16", "--gpus", "0"])
    said = capsys.readouterr().err
    assert "torch.Size([8, 1, 3, 3]) from checkpoint, the shape in current model is torch.Size([16, 1, 3, 3])" in said, said


def test_config_and_print_config(tmp_path, capsys):
    main([*LINES, "--print_config"])
    printed = capsys.readouterr().out
    settings = yaml.safe_load(printed)
    assert settings["max_length"] == 8 and settings["num_sanity_val_steps"] is None
    (tmp_path / "run.yaml").write_text(printed)
    again = parse(["--config", str(tmp_path / "run.yaml"), "--max_length", "16"])
    assert {**vars(again), "max_length": 8, "config": None} == {**vars(parse(LINES)), "config": None}
    assert again.max_length == 16


def test_weights_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self): return (Path.touch, (tmp_path / "ran",))

    torch.save({"state_dict": {}, "hyper_parameters": Trap()}, tmp_path / "trap.ckpt")
    with pytest.raises(UserError, match="weights_only=True"): load_run(tmp_path / "trap.ckpt")
    assert not (tmp_path / "ran").exists()


def test_ctrl_c(tmp_path):
    argv = [sys.executable, SCRIPT, *SHORT, "--max_epochs", "1000", "--checkpoint_every", "5"]
    process = subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("last.state")) and process.poll() is None and time.monotonic() < deadline: time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err[-2000:]
    assert "Traceback" not in err
    checkpoint = re.search(r"--ckpt_path (\S+)$", out.strip())[1]
    assert read_checkpoint(tmp_path / checkpoint)["global_step"] > 0


@pytest.mark.slow
def test_from_a_notebook(tmp_path):
    """`%run` in IPython is the same program."""
    program = ("from IPython.core.interactiveshell import InteractiveShell as S;"
               f"S.instance().run_line_magic('run', {' '.join(map(str, [SCRIPT, *SHORT, '--limit_train_batches 2']))!r})")
    done = run_python("-c", program, cwd=tmp_path)
    assert BEST.search(done.stdout.strip().splitlines()[-1]), done.stdout[-500:] + done.stderr[-500:]


@pytest.mark.slow
def test_without_an_installation(tmp_path):
    """The script finds the package of its own checkout when none is installed."""
    program = (f"import sys, runpy; sys.path = [p for p in sys.path if p and p != {str(ROOT)!r}];"
               "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()];"
               "sys.argv = ['x', '--print_config'];"
               f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')")
    done = run_python("-c", program, cwd=tmp_path)
    assert done.returncode == 0 and "model_class: CNN" in done.stdout, done.stderr


@pytest.mark.slow
def test_wandb_offline_needs_no_account(tmp_path):
    pytest.importorskip("wandb")
    done = command(*SHORT, "--logger", "wandb", "--limit_train_batches", 4, cwd=tmp_path, WANDB_MODE="offline",
                   WANDB_SILENT="true")
    assert done.returncode == 0, done.stderr[-2000:]
    best_of(done.stdout)
    assert list(tmp_path.rglob("*.wandb")) and list(tmp_path.rglob("media/images/validation/*.png"))


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """DDP over gloo: the losses of one process at the same global batch, augmented; one log, one table, one best model."""
    settings = [*SHORT[:-2], "--accelerator", "cpu", "--fc_dropout", 0, "--augment", 1, "--max_epochs", 2,
                "--limit_train_batches", 31]
    curves, printed = [], []
    for name, more in (("one", ["--batch_size", 32]), ("two", ["--batch_size", 16, "--devices", 2, "--strategy", "ddp"])):
        (tmp_path / name).mkdir()
        done = command(*settings, *more, cwd=tmp_path / name)
        assert done.returncode == 0, done.stderr[-2000:]
        run = best_of(done.stdout).parent
        rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
        place = rows[0].index("validation/loss")
        curves.append([float(row[place]) for row in rows[1:] if row[place]])
        printed.append(done.stdout)
        assert len(list((tmp_path / name).rglob("version_*"))) == 1
    # Sums in another order differ in the last bits, and 62 steps of Adam make them larger.
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    for what in ("EMNIST Dataset", "Best model saved at"): assert printed[1].count(what) == 1
    assert test_score(printed[0]) == pytest.approx(test_score(printed[1]), abs=0.01)
