"""Compose profiles from ``conf/``.

``exemplarcnn profile NAME`` writes one into ``params.yaml``, as ``dvc exp run -S profile=NAME`` does.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import parse
from exemplarcnn.files import read_mapping

PACKAGED = Path(__file__).parents[1] / "conf"  # in a checkout a link to the project's folder


def names(conf: Path) -> list[str]:
    """Return the names of the profiles in ``conf/profile``, sorted."""
    return sorted(path.stem for path in (conf / "profile").glob("*.yaml"))


def compose(conf: Path, profile: str) -> dict[str, Any]:
    """Compose ``conf/config.yaml`` with one profile, as ``dvc exp run -S profile=NAME`` does.

    Returns
    -------
    dict
        The nested parameters, checked.

    Raises
    ------
    ConfigError
        If there is no such profile, or its parameters are not valid.
    """
    # Hydra is only needed here, and slow to import.
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    _check_name(conf, profile)
    file = conf / "profile" / f"{profile}.yaml"
    read_mapping(file)
    try:
        with initialize_config_dir(str(conf.resolve()), version_base=None):
            composed = hydra_compose("config", overrides=[f"profile='{profile}'"])
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ConfigError(f"cannot compose {file}: {' '.join(str(error).split())}") from None
    assert isinstance(values, dict)
    plain: dict[str, Any] = {str(key): value for key, value in values.items()}
    parse(plain, f"profile {profile}")
    if plain["profile"] != profile:
        raise ConfigError(
            f"{file} says profile: {plain['profile']}, under which its results would be; write profile: {profile}"
        )
    return plain


def section(conf: Path, profile: str, name: str) -> dict[str, Any]:
    """Read one section of a profile, such as ``surrogate``, without Hydra.

    Only for sections that no file of ``conf/entry`` or ``conf/rows`` has a part in: those of the method's numbers.

    Returns
    -------
    dict
        The nested parameters, as `compose` gives them, unchecked.

    Raises
    ------
    ConfigError
        If there is no such profile.
    """
    _check_name(conf, profile)
    values: dict[str, Any] = read_mapping(conf / "config.yaml")[name]
    for each in _based_on(conf, profile):
        values = merged(values, each.get(name, {}))
    return values


def _based_on(conf: Path, profile: str) -> list[dict[str, Any]]:
    """Return what a profile and those that it is based on say, the basis first."""
    own = read_mapping(conf / "profile" / f"{profile}.yaml")
    bases = [base for base in own.get("defaults", []) if isinstance(base, str) and base in names(conf)]
    return [*(values for base in bases for values in _based_on(conf, base)), own]


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return values of a mapping with those of another in their place, in mappings inside it, too."""
    both = {
        key: merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both


def _check_name(conf: Path, profile: str) -> None:
    if not (conf / "config.yaml").is_file():
        raise ConfigError(
            f"cannot read profiles: {conf} is no folder with config.yaml; a link is lost if this package was unpacked "
            "from a ZIP: install it from a git clone"
        )
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", profile) and profile in names(conf):
        raise ConfigError(
            f"profile {profile!r} cannot be composed: rename its file; use letters from a to z, digits, _ - ."
        )
    if profile not in names(conf):
        raise ConfigError(f"no profile {profile!r} in {conf / 'profile'}; choose one of {', '.join(names(conf))}")
