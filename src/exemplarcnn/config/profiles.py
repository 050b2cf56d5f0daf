"""Compose profiles from ``conf/``.

``exemplarcnn profile NAME`` writes one into ``params.yaml``, as ``dvc exp run -S profile=NAME`` does.
"""

from pathlib import Path
from typing import Any

from exemplarcnn.config.base import ConfigError
from exemplarcnn.config.params import parse


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
    from omegaconf import OmegaConf

    if profile not in names(conf):
        raise ConfigError(f"no profile {profile!r} in {conf / 'profile'}; choose one of {', '.join(names(conf))}")
    with initialize_config_dir(str(conf.resolve()), version_base=None):
        composed = hydra_compose("config", overrides=[f"profile={profile}"])
    values = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(values, dict)
    plain: dict[str, Any] = {str(key): value for key, value in values.items()}
    parse(plain, f"profile {profile}")
    return plain
