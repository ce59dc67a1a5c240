"""PFO by hand; the escort's cross-entropy against the library's own in JAX, and against differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from escapevelocity.interop import EscortCrossEntropyLoss, pfo_loss  # noqa: E402
from escapevelocity.policy import EscortCrossEntropy  # noqa: E402


def test_pfo_is_the_mean_over_states_and_all_units_and_the_sum_over_units_is_equation_2():
    new = [torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0], [1.0]])]
    old = [torch.tensor([[0.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0], [0.0]])]
    # Squares 1, 4, 0, 4 and 0, 1: ten over two states of three units.
    assert pfo_loss(new, old).item() == pytest.approx(10 / 6)
    assert pfo_loss(new, old, "sum").item() == pytest.approx(10 / 2)
    assert pfo_loss(new[0], old[0]).item() == pytest.approx(9 / 4)


def test_the_layers_of_pfo_count_by_their_units_and_convolutions_by_all_of_theirs():
    new = [torch.full((2, 3, 4, 5), 1.0), torch.full((2, 6), 3.0)]
    old = [torch.zeros_like(x) for x in new]
    assert pfo_loss(new, old).item() == pytest.approx((60 * 1 + 6 * 9) / 66)


def test_the_gradient_of_pfo_flows_into_the_new_side_only():
    new, old = (
        torch.tensor([[1.0, 2.0]], requires_grad=True),
        torch.tensor([[0.0, 5.0]], requires_grad=True),
    )
    pfo_loss(new, old).backward()
    torch.testing.assert_close(new.grad, torch.tensor([[1.0, -3.0]]))  # 2·(new − old)/2
    assert old.grad is None


def test_pfo_refuses_what_does_not_fit():
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"old has shapes \[\(2, 4\)\]: must be those of new, \[\(2, 3\)\]"):
        pfo_loss(x, torch.zeros(2, 4))
    with pytest.raises(ValueError, match="at least one of them"):
        pfo_loss([], [])
    with pytest.raises(ValueError, match="reduction = 'max': must be 'mean' or 'sum'"):
        pfo_loss(x, x, "max")


def batch(rng, dtype):
    theta = rng.normal(size=(8, 5)).astype(dtype)
    theta[0] = [1e-5, 1.0, -1.0, 0.0, 1e-14]  # 0 and an entry below the floor
    theta[1] = [1e4, 1.0, -1e-3, 1e-6, 2.0]  # nearly one-hot
    theta[2] = 0.0
    labels = rng.integers(5, size=8)
    labels[:2] = [3, 0]
    soft = rng.dirichlet(np.ones(5), size=8).astype(dtype)
    soft[3] *= 0.5  # A weighted sample: its row does not sum to one.
    return theta, labels, soft


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("p", [1, 3.0])
def test_loss_and_gradients_are_those_of_the_library_in_jax(rng, dtype, tolerance, p):
    theta, labels, soft = batch(rng, dtype)
    loss = EscortCrossEntropyLoss(p, reduction="none")
    with jax.enable_x64(dtype == np.float64):
        reference_of = jax.jit(lambda t, y: jax.value_and_grad(total, (0, 1), has_aux=True)(t, y))

        def total(t, y):
            losses = EscortCrossEntropy(p)(t, y)
            return losses.sum(), losses

        for targets in (np.eye(5, dtype=dtype)[labels], soft):
            x = torch.from_numpy(theta).clone().requires_grad_()
            y = torch.from_numpy(targets).clone().requires_grad_()
            losses = loss(x, y)
            losses.sum().backward()
            (_, reference), (d_theta, d_targets) = reference_of(jnp.asarray(theta), jnp.asarray(targets))
            np.testing.assert_allclose(losses.detach(), reference, rtol=tolerance, atol=tolerance)
            np.testing.assert_allclose(x.grad, d_theta, rtol=10 * tolerance, atol=tolerance)
            np.testing.assert_allclose(y.grad, d_targets, rtol=tolerance, atol=tolerance)


def test_half_precision_neither_overflows_nor_loses_the_floor():
    moved, old = torch.ones(256, 512, dtype=torch.float16), torch.zeros(256, 512, dtype=torch.float16)
    assert pfo_loss(moved, old).item() == 1.0  # The sum of the squares is 131,072, and half ends at 65,504.
    theta = torch.tensor([[1.0, 0.0, 0.5]], dtype=torch.float16, requires_grad=True)
    loss = EscortCrossEntropyLoss(2)(theta, torch.tensor([1]))
    loss.backward()
    exact = EscortCrossEntropyLoss(2)(theta.detach().float(), torch.tensor([1]))
    assert loss.item() == exact.item()
    assert torch.isfinite(theta.grad).all()


def test_classes_count_as_one_hot_labels_and_reductions_are_mean_and_sum(rng):
    theta, labels, _ = batch(rng, np.float64)
    x, classes = torch.from_numpy(theta), torch.from_numpy(labels)
    each = EscortCrossEntropyLoss(3, reduction="none")(x, torch.eye(5, dtype=torch.float64)[classes])
    torch.testing.assert_close(EscortCrossEntropyLoss(3, reduction="none")(x, classes), each)
    assert EscortCrossEntropyLoss(3)(x, classes).item() == pytest.approx(each.mean().item(), rel=1e-12)
    assert EscortCrossEntropyLoss(3, reduction="sum")(x, classes).item() == pytest.approx(each.sum().item())


@pytest.mark.parametrize("p", [1.5, 2.0, 5.0])
def test_first_and_second_derivatives_are_those_of_differences(p):
    theta = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True
    )
    targets = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.3, 0.5], [0.0, 1.0, 0.0], [0.0, 0.5, 0.5]]).double()
    loss = EscortCrossEntropyLoss(p, reduction="none")
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), theta)
    assert torch.autograd.gradgradcheck(lambda x: loss(x, targets), theta)


def test_the_gradient_near_a_one_hot_target_keeps_its_relative_precision():
    # π(other) = 1e-20: −(p/θ)(1 − π) would round to 0, the closed form is −2e-20 (to first order).
    theta = torch.tensor([[1.0, 1e-10]], dtype=torch.float64, requires_grad=True)
    EscortCrossEntropyLoss(2.0)(theta, torch.tensor([0])).backward()
    assert theta.grad is not None
    assert theta.grad[0, 0].item() == pytest.approx(-2e-20, rel=1e-12, abs=0)


def test_it_is_printed_and_trains_as_a_module():
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 3)
    torch.nn.init.normal_(net.weight, std=0.01)
    torch.nn.init.ones_(net.bias)
    x, classes, loss = torch.eye(3), torch.arange(3), EscortCrossEntropyLoss(2)
    start, optimizer = loss(net(x), classes).item(), torch.optim.SGD(net.parameters(), lr=0.5)
    assert start == pytest.approx(np.log(3), abs=0.1)  # uniform at θ = 1
    for _ in range(100):
        optimizer.zero_grad()
        loss(net(x), classes).backward()
        optimizer.step()
    assert loss(net(x), classes).item() < 1e-3
    assert repr(loss) == "EscortCrossEntropyLoss(p=2, reduction='mean')"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"p = 0\.5: must be a finite number of at least 1"):
        EscortCrossEntropyLoss(0.5)
    with pytest.raises(ValueError, match="reduction = 'max': must be 'mean', 'sum' or 'none'"):
        EscortCrossEntropyLoss(2, reduction="max")
    with pytest.raises(ValueError, match=r"target.shape = \(2,\): must be \(3,\) for classes"):
        EscortCrossEntropyLoss(2)(torch.ones(3, 4), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"target.shape = \(3, 5\): must be that of theta, \(3, 4\)"):
        EscortCrossEntropyLoss(2)(torch.ones(3, 4), torch.ones(3, 5))
