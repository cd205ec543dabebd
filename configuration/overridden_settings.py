"""Settings of a file that variables of the environment override, each key by itself."""

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource


class OverriddenSettings(BaseSettings):
    """The file's keys are given to the constructor; which variables there are, `model_config` says."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings
