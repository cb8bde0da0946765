"""The YAML that files of this project are written in: plain data without anchors, tags, duplicate keys, dates or deep nesting."""

import re
from collections.abc import Hashable

import yaml

from advisor.profiles.json_text import MAX_DEPTH, check_bounds


class ForbiddenYamlError(ValueError):
    """YAML that is well-formed and not plain data; `line` is where."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


def parse_yaml(text: str) -> object:
    """The value of a YAML text; dates stay strings and only `true` and `false` are booleans.

    Raises `ForbiddenYamlError`, or `ValueError`, `RecursionError` and `yaml.YAMLError` for a text that is no YAML.
    """
    if problem := _forbidden(text):
        raise ForbiddenYamlError(*problem)
    value: object = yaml.load(text, Loader=_Loader)
    check_bounds(value)
    return value


# libyaml's parser where PyYAML was built with it: about eight times faster.
_SafeLoader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc, valid-type]  # chosen at run time
    """The safe loader without duplicate keys, merge keys, dates and the booleans of YAML 1.1 other than `true` and `false`."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key `{key.value}` stands twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Hashable, object] = super().construct_mapping(node, deep=deep)
        return mapping


_PLAIN = {"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _PLAIN or (tag.endswith("bool") and first in "tf")]
    for first, resolvers in _SafeLoader.yaml_implicit_resolvers.items()
}


def _forbidden(text: str) -> tuple[str, int] | None:
    """The first anchor, alias, tag or too deep nesting, with its line.

    libyaml's loader recurses, so depth is checked before loading. Texts without any character that these need are not parsed here.
    """
    if not re.search(rf"[&*!]|^[\s?:-]{{{MAX_DEPTH // 2}}}", text, re.MULTILINE) and len(re.findall(r"[\[{]", text)) < MAX_DEPTH // 2:
        return None
    depth = 0
    for event in yaml.parse(text, Loader=_SafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if problem := _event_problem(event, depth):
            return problem, (event.start_mark.line if event.start_mark else 0) + 1
    return None


def _event_problem(event: yaml.Event, depth: int) -> str | None:
    if getattr(event, "anchor", None):
        return "anchors and aliases are not allowed"
    if getattr(event, "tag", None):
        return "tags are not allowed"
    return f"nested deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else None
