import json

from brainpretrain.config.schema import json_schema
from helpers import ROOT


def test_the_schema_on_file_is_the_schema_of_the_models():
    on_file = json.loads((ROOT / "config" / "schema.json").read_text())
    assert on_file == json.loads(json.dumps(json_schema())), "run `make schema`"
