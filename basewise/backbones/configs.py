"""Turn a dictionary from a file into a frozen config, all mistakes named at once."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from basewise.errors import BasewiseError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def parse_config(schema: type[Model], values: dict[str, Any], source: object) -> Model:
    """Return ``schema(**values)``; BasewiseError in one line lists every unknown, missing or wrong key of `source`."""
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"])) or "(whole)"
            if item["type"] == "extra_forbidden":
                problems.append(f"unknown key {key}{did_you_mean(key, schema.model_fields)}")
            elif item["type"] == "missing":
                problems.append(f"missing key {key}")
            else:
                problems.append(f"{key} = {item['input']!r}: {item['msg']}")
        raise BasewiseError(f"{source}: {'; '.join(problems)}") from error
