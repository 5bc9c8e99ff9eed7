"""The convolutions that lesson 1 argues for: the same as PyTorch's, and one line for every wrong argument."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from text_recognizer.convolutions import blurred_u, conv2d_by_unfold, conv_matrix, output_size
from text_recognizer.errors import UserError


def whole(*shape: int) -> torch.Tensor:
    """Random whole numbers, so that sums are exact in any order."""
    return torch.randint(-9, 10, shape).float()


def test_output_size_is_pytorch_s():
    tried = 0
    for n, k, s, p, d in itertools.product(range(1, 12), (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
        if d * (k - 1) + 1 > n + 2 * p: continue
        there = F.conv1d(torch.zeros(1, 1, n), torch.zeros(1, 1, k), stride=s, padding=p, dilation=d).shape[-1]
        assert output_size(n, k, s, p, d) == there, (n, k, s, p, d)
        tried += 1
    assert tried == 687


def test_unfolded_equals_pytorch_to_the_last_bit():
    for channels, k, stride, padding in itertools.product((1, 3), (1, 2, 5), (1, 2, 3), (0, 1, 2)):
        x, weight, bias = whole(2, channels, 9, 7), whole(4, channels, k, k), whole(4)
        assert torch.equal(conv2d_by_unfold(x, weight, bias, stride, padding), F.conv2d(x, weight, bias, stride, padding))


@pytest.mark.parametrize("padding, mode", [("circular", "circular"), ("zeros", "zeros")])
def test_matrix_is_conv1d_s(padding, mode):
    kernel = torch.tensor([1.0, 2, -4, 3, 2])
    layer = nn.Conv1d(1, 1, 5, padding=2, padding_mode=mode, bias=False)
    layer.weight.data[:] = kernel
    by_spikes = layer(torch.eye(16)[:, None]).detach()[:, 0].T  # the answer to each spike is a column
    assert torch.equal(conv_matrix(kernel, 16, padding), by_spikes)


def test_ring_and_zeros_differ_at_the_ends_alone():
    kernel = torch.tensor([1.0, 2, -4, 3, 2])
    differ = (conv_matrix(kernel, 16, "circular") != conv_matrix(kernel, 16, "zeros")).any(1).nonzero()[:, 0]
    assert differ.tolist() == [0, 1, 14, 15]
    assert conv_matrix([1, 2, 3], 4, "none").tolist() == [[1, 2, 3, 0], [0, 1, 2, 3]]


@pytest.mark.parametrize("call, said", [
    (lambda: conv_matrix([1], 4, "zero"), "one of circular, zeros, none; got 'zero'"),
    (lambda: conv_matrix([[1]], 4), r"got the shape \(1, 1\)"),
    (lambda: conv_matrix([], 4), r"got the shape \(0,\)"),
    (lambda: conv_matrix([1, 1, 1], 2, "none"), r"at most 2, got the shape \(3,\)"),
    (lambda: output_size(2, 3), "at most 2, input and padding; got 3"),
    (lambda: output_size(28, 3, stride=0), "stride: expected a whole number of at least 1"),
    (lambda: conv2d_by_unfold(whole(1, 4, 4), whole(1, 1, 3, 3)), r"got \(1, 4, 4\) and \(1, 1, 3, 3\)"),
    (lambda: conv2d_by_unfold(whole(1, 1, 2, 2), whole(1, 1, 3, 3)), "at most 2"),
    (lambda: conv2d_by_unfold(whole(1, 1, 4, 4), whole(4, 1, 3, 3), whole(1)), r"each of 4 kernels, got the shape \(1,\)"),
    (lambda: blurred_u(pixels=0), "pixels: expected a whole number of at least 1"),
    (lambda: blurred_u(pen=0), "height and pen: expected numbers above 0"),
])
def test_wrong_arguments_get_one_line(call, said):
    with pytest.raises(UserError, match=said) as caught: call()
    assert "\n" not in str(caught.value)
