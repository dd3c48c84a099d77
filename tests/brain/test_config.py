"""Configuration: everything wrong is named at once, secrets are minted once and never shown."""

from __future__ import annotations

import stat

import pytest
from z4j_core.errors import ConfigError

from z4j_project.config import load


def test_an_empty_environment_works_and_mints_secrets(tmp_path):
    home = tmp_path / "home"
    config = load({"Z4J_HOME": str(home)})
    assert config.port == 7700
    assert str(config.database["NAME"]).endswith("z4j.db")
    file = home / "secret.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert load({"Z4J_HOME": str(home)}).secret == config.secret
    assert config.secret not in repr(config)
    assert config.session_secret not in repr(config)


def test_everything_wrong_is_named_at_once(tmp_path):
    with pytest.raises(ConfigError) as error:
        load(
            {
                "Z4J_HOME": str(tmp_path),
                "Z4J_PORT": "http",
                "Z4J_DATABASE_URL": "mysql://x",
                "Z4J_PUBLIC_URL": "tasks.example.com",
                "Z4J_DEBUG": "perhaps",
                "Z4J_SECRET": "short",
                "Z4J_ALLOWED_HOSTS": "[1]",
                "Z4J_BOOTSTRAP_ADMIN_EMAIL": "a@example.com",
            }
        )
    for name in ("PORT", "DATABASE_URL", "PUBLIC_URL", "DEBUG", "SECRET", "ALLOWED_HOSTS", "ADMIN_PASSWORD"):
        assert f"Z4J_{name}" in str(error.value) or name in str(error.value)
    assert "short" not in str(error.value).replace("must have", "")


@pytest.mark.parametrize(
    ("url", "host", "name", "user"),
    [
        ("postgresql://u:p%40ss@db:5433/z4j", "db", "z4j", "u"),
        ("postgresql://u@/z4j?host=/run/postgresql", "/run/postgresql", "z4j", "u"),
        ("postgres:///z4j?sslmode=require", "", "z4j", ""),
    ],
)
def test_database_urls(tmp_path, url, host, name, user):
    database = load({"Z4J_HOME": str(tmp_path), "Z4J_DATABASE_URL": url}).database
    assert (database["HOST"], database["NAME"], database["USER"]) == (host, name, user)


def test_a_secret_file_others_can_read_is_refused(tmp_path):
    load({"Z4J_HOME": str(tmp_path)})
    (tmp_path / "secret.env").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load({"Z4J_HOME": str(tmp_path)})


def test_keys_of_different_purposes_differ(tmp_path):
    config = load({"Z4J_HOME": str(tmp_path)})
    assert len({config.key("audit"), config.key("self-agent"), config.key("agent-hmac-secret")}) == 3
