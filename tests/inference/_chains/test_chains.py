from functools import cache
from itertools import accumulate, chain, cycle
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import weightprior as wp
from problems import NET, fit
from weightprior.fits.task import Task
from weightprior.inference import _batch, _driven
from weightprior.inference._chains import chains as _chains
from weightprior.inference._chains import hmc as _hmc
from weightprior.inference._chains.hmc import HMC
from weightprior.inference._chains.kernel import Target
from weightprior.inference._chains.nuts import NUTS
from weightprior.inference._coordinates.choose import coordinates_of
from weightprior.inference._optima import near

KERNELS = {"hmc": HMC(), "nuts": NUTS(500)}
OPTIONS = {"target_accept_prob": np.asarray(0.8), "num_warmup": np.asarray(500)}
PRIOR = NET.prior(loc=0.3, scale={"weight": 0.8, "bias": 1.5})
NUM_DRAWS = 30
SEEDS = np.random.SeedSequence(1).spawn(3)


def task_of(prior):
    return Task(prior, np.ones(len(NET.x)))


@pytest.fixture(autouse=True)
def _nothing_ahead(monkeypatch):
    """Let nothing be compiled ahead, which not all of these tests would use."""
    for module in (_batch, _driven):
        monkeypatch.setattr(module, "prepare", lambda *args: None)


def begin(kernel, bnn, prior, starts):
    """Where chains stand that begin at these weights, and the density there."""
    shared, tasks = (bnn, NET.x, NET.y, OPTIONS), [task_of(prior)] * len(starts)
    chains = _chains.begin(kernel, shared, tasks, SEEDS[: len(starts)], starts)
    positions = np.stack([position_of(chain) for chain in chains])
    return positions, np.array([kernel.log_density(chain.state) for chain in chains])


def position_of(chain):
    state = chain.state
    return np.asarray(state.z if hasattr(state, "z") else state.chain.position)


def space_of(kernel, bnn, prior):
    """What the kernel moves through."""
    return coordinates_of(kernel.collapses, (bnn, NET.x, NET.y), task_of(prior))


@cache
def weights():
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=site.shape) for name, site in NET.bnn.sites.items()}


def permuted(w, order):
    """The same function, with its hidden units in another order."""
    return {
        "hidden_0.weight": w["hidden_0.weight"][:, order],
        "hidden_0.bias": w["hidden_0.bias"][order],
        "output.weight": w["output.weight"][order],
        "output.bias": w["output.bias"],
    }


@pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
def test_chains_begin_at_the_weights_they_are_given(kernel):
    starts = [weights(), permuted(weights(), [2, 0, 1])]
    positions, log_densities = begin(kernel, NET.bnn, PRIOR, starts)
    eps = np.finfo(np.float32).eps
    found = jax.jit(jax.vmap(lambda z: space_of(kernel, NET.bnn, PRIOR).weights(z)))(positions)
    assert set(found) == {n for n in NET.bnn.sites if not (kernel.collapses and "output" in n)}
    for name in found:
        expected = np.stack([start[name] for start in starts])
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=10 * eps)

    def density(w):
        space = space_of(kernel, NET.bnn, PRIOR)
        return space.log_density(space.position(w))

    with jax.enable_x64(True):
        expected = jax.jit(density)(weights())
    # Under a prior that treats units alike, their order does not matter.
    np.testing.assert_allclose(log_densities, expected, rtol=100 * eps)


def test_chains_begin_at_the_end_of_short_optimisations_from_draws_of_the_prior():
    bnn = wp.BNN(NET.bnn.network, wp.Gaussian())
    prior = wp.normal_prior(bnn, loc=0.3, scale=0.8, latents={"log_noise": (-1.0, 0.5)})
    positions, log_densities = begin(KERNELS["nuts"], bnn, prior, [None] * 3)

    @jax.jit
    def seen(draws, positions):
        # NUTS stands where all weights can be seen.
        space = space_of(KERNELS["nuts"], bnn, prior)
        evaluate = jax.vmap(jax.value_and_grad(space.log_density))
        return space.mask({"log_noise"}), evaluate(draws)[0], evaluate(positions)[1]

    size = positions.shape[1:]
    draws = np.stack(
        [np.random.default_rng(_chains._branch(s, 0)).standard_normal(size) for s in SEEDS]
    )
    noise, before, gradients = jax.device_get(seen(draws.astype(np.float32), positions))
    # All but the noise, which stays where it was drawn.
    rounding = 10 * np.finfo(np.float32).eps
    np.testing.assert_allclose(positions[:, noise], draws[:, noise], rtol=0, atol=rounding)
    assert np.all(log_densities > before)
    assert np.abs(gradients[:, ~noise]).max() <= near._TOLERANCE
    assert np.abs(positions[0] - positions[1]).max() > 0.1


BRIEF = {"num_chains": 2, "init": weights()}


@cache
def run(kernel):
    return fit(kernel, NET, PRIOR, num_samples=NUM_DRAWS, **BRIEF)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("seconds", [(0.02, 0.7), (1e-9,)], ids=["uneven chunks", "full chunks"])
def test_where_the_chunks_are_cut_does_not_matter(kernel, seconds, monkeypatch):
    # A clock by which the calls take these times, in turn; the chunks are cut by it.
    ticks = accumulate(chain.from_iterable((0.0, s) for s in cycle(seconds)))
    monkeypatch.setattr(_chains, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    again = run.__wrapped__(kernel)
    for group in ("posterior", "sample_stats"):
        xr.testing.assert_identical(run(kernel)[group].dataset, again[group].dataset)


@pytest.mark.parametrize("kernel", KERNELS)
def test_thinning_keeps_every_second_draw_of_the_same_chain(kernel):
    half = fit(kernel, NET, PRIOR, num_samples=NUM_DRAWS // 2, thinning=2, **BRIEF)
    full = run(kernel)
    kept = full["posterior"].isel(draw=slice(1, None, 2))
    for name in NET.bnn.sites:
        np.testing.assert_array_equal(half["posterior"][name], kept[name])
    ours = half["sample_stats"]
    pairs = full["sample_stats"].dataset.coarsen(draw=2)
    np.testing.assert_array_equal(ours["n_steps"], pairs.sum()["n_steps"])
    np.testing.assert_array_equal(ours["diverging"], pairs.max()["diverging"])
    np.testing.assert_allclose(
        ours["acceptance_rate"], pairs.mean()["acceptance_rate"], rtol=4 * np.finfo(np.float32).eps
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_statistics_are_those_of_the_draws(kernel):
    stats = run(kernel)["sample_stats"]
    assert set(stats.data_vars) == {
        *("lp", "acceptance_rate", "diverging", "energy", "n_steps", "step_size")
    }
    assert np.all((stats["acceptance_rate"] >= 0) & (stats["acceptance_rate"] <= 1))
    assert stats["diverging"].dtype == bool
    assert np.all(stats["n_steps"] >= 1)
    # Kinetic energy is positive: half a chi-square of 9 degrees of freedom, or more.
    weights = {n: run(kernel)["posterior"][n].to_numpy() for n in NET.bnn.sites}

    def density_of(w):
        space = space_of(KERNELS[kernel], NET.bnn, PRIOR)
        return space.log_density(space.position(w))

    density = jax.jit(jax.vmap(jax.vmap(density_of)))(weights)
    assert np.all(stats["energy"].to_numpy() > -np.asarray(density) - 1e-3)
    # Tuned in the warm-up alone, chain by chain.
    step_size = stats["step_size"].to_numpy()
    assert np.all(step_size == step_size[:, :1])
    assert step_size[0, 0] != step_size[1, 0]


def test_a_chain_leaves_a_place_too_narrow_for_its_step_size():
    """Twice the width is the limit of stability, above which every proposal is rejected."""
    width, kernel = 0.02, HMC()

    def log_density(z):
        return -0.5 * jnp.sum((z / width) ** 2)

    @jax.jit
    def run(key):
        target = Target(log_density, 0, lambda normals, z: {"z": z}, lambda draw: draw["z"])
        state = kernel.init(key, jnp.full(3, width), target, OPTIONS)
        adaptation = state.adaptation._replace(log_step_size=jnp.log(2.5 * width))
        state = state._replace(adaptation=adaptation)
        tuned = OPTIONS | {"num_warmup": 0}

        def step(state, i):
            state, _, draw = kernel.step(jax.random.fold_in(key, i), state, target, tuned, i)
            return state, draw["z"]

        return jax.lax.scan(step, state, jnp.arange(100))[1]

    positions = np.asarray(run(jax.random.key(0)))
    moves = np.any(np.diff(positions, axis=0) != 0, axis=1)
    assert moves.mean() > 0.1


@pytest.mark.parametrize(("step", "turns"), [(100.0, True), (1e-3, False)])
def test_a_chain_turns_back_where_its_proposal_is_rejected(step, turns):
    kernel, size = HMC(), 3
    target = Target(
        lambda z: -0.5 * jnp.sum(z**2), 0, lambda normals, z: {"z": z}, lambda draw: draw["z"]
    )
    untuned = OPTIONS | {"num_warmup": np.asarray(0)}
    key, position = jax.random.key(0), jnp.ones(size)
    state = kernel.init(key, position, target, untuned)
    state, _, _ = kernel.step(key, state, target, untuned, -1)  # evaluates the density
    log_step = jnp.log(jnp.asarray(step, jnp.float32))
    adaptation = state.adaptation._replace(log_step_size=log_step)
    trajectory = state.trajectory._replace(time=jnp.asarray(step, jnp.float32))
    state = state._replace(adaptation=adaptation, trajectory=trajectory)
    key = jax.random.key(1)
    fresh, _ = _hmc._chances(key, size, 3, jnp.float32)
    begun = _hmc._KEPT * state.momentum + np.sqrt(1 - _hmc._KEPT**2) * fresh
    after, _, _ = kernel.step(key, state, target, untuned, 0)
    assert bool(jnp.all(after.chain.position == position)) == turns
    # A short step hardly changes it.
    np.testing.assert_allclose(after.momentum, -begun if turns else begun, rtol=1e-5, atol=0.01)
