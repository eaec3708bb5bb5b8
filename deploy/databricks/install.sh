#!/bin/sh
# Init script of each machine of a cluster: the packages that cropline's workers need.
set -eu
/databricks/python/bin/pip install --quiet --disable-pip-version-check "${INSTALL_PACKAGE:?name the package, such as cropline[spark,validation]}"
