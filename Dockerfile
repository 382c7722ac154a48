# Separate images for the service and for training. For their use see docs/deployment.md.
#
#   docker build --target cpu -t lanistr:cpu .      the service on a CPU: onnxruntime, no torch
#   docker build --target gpu -t lanistr:gpu .      the service on GPUs: torch, which includes CUDA
#   docker build --target train -t lanistr:train .  preparing, training, evaluating, exporting, scoring
#
# To pin the base image, add its digest: --build-arg PYTHON=python:...@sha256:...
ARG PYTHON=python:3.11.14-slim-bookworm


# ---- common base -----------------------------------------------------------------------------------

FROM ${PYTHON} AS base
# The user may be any number without a name, so HOME belongs to nobody; torch needs a user name.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/lanistr \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    LOGNAME=lanistr
LABEL org.opencontainers.image.title="LANISTR" \
      org.opencontainers.image.licenses="Apache-2.0"

# Compiled here, since containers run with read-only file systems.
FROM ${PYTHON} AS code
WORKDIR /opt/lanistr
COPY lanistr lanistr
COPY tasks tasks
COPY service service
COPY clients clients
RUN python -m compileall -q .

FROM code AS training-code
COPY training training
COPY export export
RUN python -m compileall -q .


# ---- packages: as locked, without pip --------------------------------------------------------------

FROM ${PYTHON} AS packages
RUN python -m venv --without-pip /opt/venv

FROM packages AS cpu-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=requirements/service.txt,target=/requirements.txt \
    python -m pip --python /opt/venv/bin/python install --require-hashes -r /requirements.txt

FROM packages AS gpu-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=requirements/gpu.txt,target=/requirements.txt \
    python -m pip --python /opt/venv/bin/python install --require-hashes -r /requirements.txt

FROM packages AS training-packages
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip,target=/etc/pip.conf \
    --mount=type=bind,source=requirements/training.txt,target=/requirements.txt \
    python -m pip --python /opt/venv/bin/python install --require-hashes -r /requirements.txt


# ---- images ----------------------------------------------------------------------------------------

FROM base AS train
# `torch.compile` needs a C compiler to build the code that launches its kernels.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
COPY --from=training-packages /opt/venv /opt/venv
COPY --from=training-code /opt/lanistr /opt/lanistr
USER 10001:10001
WORKDIR /srv/lanistr
ENTRYPOINT ["python", "-m"]
CMD ["training.pretrain", "--help"]

FROM base AS service
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); raise SystemExit(c.getresponse().status != 200)"]

FROM service AS gpu
COPY --from=gpu-packages /opt/venv /opt/venv
COPY --from=code /opt/lanistr /opt/lanistr
USER 10001:10001
ENTRYPOINT ["python", "-m", "service", "--host", "0.0.0.0", "--backend", "torch"]
CMD ["--bundles", "/bundles"]

# The last image is the default of a build without --target. Without --bundles it serves the demo.
FROM service AS cpu
COPY --from=cpu-packages /opt/venv /opt/venv
COPY --from=code /opt/lanistr /opt/lanistr
USER 10001:10001
ENTRYPOINT ["python", "-m", "service", "--host", "0.0.0.0"]
