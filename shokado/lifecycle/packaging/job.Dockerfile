# The image of a job beside the servers (`make image-drift`, `make image-batch`): the packages of its lock, which read
# object stores too, and this project's commands. Built in a folder that holds nothing else; its last lines are its job's.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS packages
# pip from an environment of its own, so that the other one has none.
RUN python3 -m venv /tmp/tools && python3 -m venv --without-pip /app/.venv
COPY requirements/job.txt /tmp/requirements.txt
# How the building host finds packages, if it has ways of its own, is there for this command only. The root file system
# will be read-only: what is not compiled now would be compiled at each start. Evidently calls a part of itself `tests`, and
# Ray keeps programs in folders of any name.
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=secret,id=ca.pem,target=/etc/ssl/build-ca.pem \
    /tmp/tools/bin/pip --disable-pip-version-check --no-cache-dir --python /app/.venv/bin/python install \
    --quiet --no-deps --require-hashes --only-binary :all: --no-compile -r /tmp/requirements.txt \
    && cd /app/.venv/lib/python3*/site-packages \
    && find . \( -path ./evidently -o -path ./ray \) -prune -o -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PWD"
COPY src /app/src
RUN chmod -R go-w,a+rX /app/src && python3 -m compileall -q --invalidation-mode unchecked-hash /app/src
RUN groupadd --gid 1034 bentoml \
    && useradd --uid 1034 --gid 1034 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin bentoml \
    && install -D --target-directory /added/etc /etc/passwd /etc/group

# No command runs in this stage, as each would leave traces of what was mounted for the build.
FROM ${BASE_IMAGE}
COPY --from=packages /added /
COPY --from=packages /app /app
ENV PATH=/app/.venv/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    OPENBLAS_NUM_THREADS=1 \
    DO_NOT_TRACK=1 \
    BENTOML_DO_NOT_TRACK=True
WORKDIR /app/src
USER 1034
