import json
import sys

import six

print(json.dumps({"six": six.__version__, "args": sys.argv[1:], "text": six.ensure_str(b"hello")}))
