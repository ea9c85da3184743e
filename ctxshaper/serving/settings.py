"""How the service is configured: a TOML file, and environment variables that outrank it."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ctxshaper.data import Budget
from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Recipe


class Settings(BaseSettings):
    """What the service is told. Each field is also an environment variable, `CTXSHAPER_HOST` and so on.

    Attributes:
        host: the address to listen on.
        port: the port; 0 for any that is free.
        api_key: what clients must send, as `Authorization: Bearer KEY` or `x-api-key: KEY`; none if left out.
        allow_without_key: listen on an address that others reach although there is no key.
        recipes: recipes by the name under which clients ask for them as `model`: names that ship, or YAML files.
        recipe: the one for requests that name none.
        budget: for requests that give none; outranks the recipes'.
        model: the reader's model, a folder or hub name; the embedded one if left out.
        store: the folder where what is read of passages is kept.
        max_body_bytes: the largest request.
        max_passages: the most passages (documents, or passages found in messages) of a request.
        max_characters: the most text of a request; a token has some four characters.
        timeout: seconds from a request's arrival to its answer.
        concurrency: requests that are worked on at once; they share the processor, and the reader's batches.
        queue: requests that wait beyond that; one more is refused with 429.
        log_content: whether logs hold queries and the names of passages.
    """

    model_config = SettingsConfigDict(env_prefix="CTXSHAPER_", extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8787, ge=0, le=65535)
    api_key: SecretStr | None = None
    allow_without_key: bool = False
    recipes: dict[str, str] = Field(default={"qa": "qa", "fast": "fast"}, min_length=1)
    recipe: str = "qa"
    budget: str | None = None
    model: str | None = None
    store: Path | None = None
    max_body_bytes: int = Field(default=16 * 2**20, ge=1)
    max_passages: int = Field(default=2_000, ge=1)
    max_characters: int = Field(default=2_000_000, ge=1)
    timeout: float = Field(default=30.0, gt=0)
    concurrency: int = Field(default=8, ge=1)
    queue: int = Field(default=64, ge=0)
    log_content: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.recipe not in self.recipes:
            raise ValueError(f"recipe is {self.recipe!r}, but recipes are {', '.join(sorted(self.recipes))}")
        if self.api_key is not None and not self.api_key.get_secret_value().strip():
            raise ValueError("api_key is empty; give one, or leave it out")
        if self.budget is not None:
            Budget.parse(self.budget)
        if not (_local(self.host) or self.api_key or self.allow_without_key):
            raise ValueError(
                f"host is {self.host}, which others reach, and there is no api_key: set CTXSHAPER_API_KEY, or say "
                "allow_without_key (CTXSHAPER_ALLOW_WITHOUT_KEY=true) if something in front of it asks for one"
            )
        return self

    def loaded_recipes(self) -> dict[str, Recipe]:
        """The recipes, read.

        Raises:
            RecipeError: one that there is not, or that is not valid.
        """
        return {name: Recipe.load(recipe) for name, recipe in self.recipes.items()}

    @classmethod
    def load(cls, file: Path | None = None, **given: Any) -> Settings:
        """The settings of the environment, then of a file, then the defaults; what is given outranks all.

        Raises:
            InvalidInputError: a file that cannot be read, an unknown name or a value that is not allowed.
        """
        if file is not None and not file.is_file():
            raise InvalidInputError(f"there is no settings file {file}; write one in TOML, or leave --config out")

        class FromFile(cls):  # type: ignore[valid-type, misc]  # the file's name is known only now
            @classmethod
            def settings_customise_sources(
                cls,
                settings_cls: type[BaseSettings],
                init_settings: PydanticBaseSettingsSource,
                env_settings: PydanticBaseSettingsSource,
                dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
                file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, file)

        try:
            found: Settings = FromFile(**given)
        except ValidationError as error:
            # The values are left out: one of them may be the key.
            told = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise InvalidInputError(f"the service's settings are not right: {told}") from None
        except (OSError, ValueError) as error:
            raise InvalidInputError(f"{file} is not a settings file in TOML: {error}") from error
        return found


def _local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
