"""What one imports first stands where one would look for it, without heavy imports; lists of names are whole."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

import minigen

PACKAGES = ["minigen", *(f"minigen.{m.name}" for m in pkgutil.iter_modules(minigen.__path__) if m.ispkg)]
LISTED = [name for name in PACKAGES if hasattr(importlib.import_module(name), "__all__")]
HEAVY = ("matplotlib", "sklearn", "scipy", "ipywidgets", "IPython", "sphinx", "PIL", "safetensors")

IMPORTS = """
from minigen import Batches, Run
from minigen.data import Vocabulary, digits, to_float
from minigen.metrics import frechet_distance, validity
from minigen.nets import Attention, Captioner, DiT, GatedPixelCNN, ImageEncoder, MLPGenerator, PixelCNN
from minigen.nets import PixelTransformer, TextEncoder, TransformerBlock, UNet
from minigen.objectives import ELBO, VQVAE, Autoregressive, Captioning, Contrastive, Denoiser, Diffusion, FlowMatching
from minigen.objectives import MaximumLikelihood, Minimax, Schedule, TimestepAdapter
from minigen.samplers import ancestral, classifier_free, ddim, ddpm, dpm_solver_2m, heun, ode_log_prob
from minigen.train import NonFiniteError, linear_decay
from minigen.worlds import GaussianMixture, Line, Shapes
"""


def own(package: ModuleType) -> dict[str, object]:
    """The public names of a package that are no modules, nor what `from __future__` brings."""
    return {
        name: value
        for name, value in vars(package).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name not in ("annotations", "TYPE_CHECKING")
    }


def order(name: str) -> tuple[int, str]:
    """Constants, classes, functions; each by name: the order that the linter asks for."""
    return 0 if name.isupper() else 1 if name[0].isupper() else 2, name


ROOMS = ("nets", "objectives", "samplers", "worlds", "metrics", "data", "train")
SCRIPT = f"""{IMPORTS}
import importlib, sys
assert not [name for name in {HEAVY} if name in sys.modules]
for room in {ROOMS}:  # each as the first that is imported
    for name in [name for name in sys.modules if name.split(".")[0] == "minigen"]:
        del sys.modules[name]
    importlib.import_module(f"minigen.{{room}}")
"""


def test_what_one_needs_first_is_found_nothing_heavy_comes_with_it_and_no_room_needs_another_first(tmp_path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_rooms_that_are_imported_from_have_a_list() -> None:
    rooms = ["minigen", *(f"minigen.{room}" for room in ("data", "metrics", "nets", "objectives", "samplers", "train"))]
    assert {*rooms, "minigen.worlds", "minigen.homework"} <= set(LISTED)


@pytest.mark.parametrize("name", LISTED)
def test_a_list_of_names_is_sorted_and_whole(name: str) -> None:
    package = importlib.import_module(name)
    listed = list(package.__all__)
    assert listed == sorted(listed, key=order)
    assert len(set(listed)) == len(listed)
    assert all(hasattr(package, each) for each in listed)
    if name != "minigen":  # whose names come when they are asked for
        assert set(own(package)) == set(listed)


def classes(name: str) -> dict[str, type]:
    """The public classes that the modules of a package define."""
    found: dict[str, type] = {}
    package = importlib.import_module(name)
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{name}.{info.name}")
        found |= {k: v for k, v in own(module).items() if inspect.isclass(v) and v.__module__ == module.__name__}
    return found


def test_every_objective_and_every_network_can_be_imported_from_its_package() -> None:
    objectives = importlib.import_module("minigen.objectives").__all__
    assert {name for name, value in classes("minigen.objectives").items() if hasattr(value, "turns")} <= set(objectives)
    nets = importlib.import_module("minigen.nets").__all__
    parts = {"AttentionBlock", "Conditioning", "GatedLayer", "MaskedSoftmax", "Residual", "ResidualBlock", "Stage"}
    parts |= {"DiagonalBiLSTM", "DiagonalLSTM", "ResnetBlock", "RowLSTM"}
    networks = {name for name, value in classes("minigen.nets").items() if issubclass(value, nn.Module)}
    assert networks - parts <= set(nets)


@pytest.mark.parametrize("name", ["minigen.nets", "minigen.objectives", "minigen.samplers"])
def test_no_name_of_a_package_hides_a_module_of_it(name: str) -> None:
    package = importlib.import_module(name)
    assert not {info.name for info in pkgutil.iter_modules(package.__path__)} & set(package.__all__)


def test_a_model_is_put_together_from_the_public_names_alone() -> None:
    from minigen import Batches, Run
    from minigen.nets import UNet
    from minigen.objectives import Denoiser, Diffusion, Schedule
    from minigen.samplers import ancestral

    objective = Diffusion(Denoiser(UNet(1, width=8, label_dim=2), "v"), Schedule.cosine(), p_uncond=0.1)
    run = Run(objective, torch.optim.Adam(objective.parameters(), 1e-3), ema={"model": 0.9})
    images, labels = torch.randn(16, 1, 8, 8), torch.arange(16) % 2
    *_, step = run(Batches(images, labels, batch_size=8), 3)
    assert step.n == 3
    model, label = run.ema["model"], torch.tensor([0, 1, -1])
    *_, drawn = ancestral(lambda *given: model(*given, label), torch.randn(3, 1, 8, 8), Schedule.even().path(4))
    assert drawn.shape == (3, 1, 8, 8)
