import json

import six

assert six.PY3 and six.ensure_str(b"x") == "x"
assert json.loads(json.dumps({"a": [1, 2]})) == {"a": [1, 2]}
print("tests passed")
