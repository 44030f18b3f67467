"""A pytest plugin for ipyparallel's own tests: their clusters get headway's task scheduler.

python -m pytest -p tests.ipyparallel.upstream_hook --pyargs ipyparallel.tests.test_lbview
"""

import sys

from ipyparallel.cluster import launcher

# In place: ipyparallel's test fixtures have imported this very list.
launcher.ipcontroller_cmd_argv[:] = [sys.executable, "-m", "headway.ipyparallel.app"]
