# syntax=docker/dockerfile:1
# Two kinds of image from one file: the CPU's (defaults below) and CUDA's (docker-compose.cuda.yml gives the arguments).
ARG BUILD_IMAGE=python:3.13-slim-trixie
ARG RUNTIME_IMAGE=python:3.13-slim-trixie

# --- builder: compiles llama.cpp and makes a wheel of everything ---
FROM ${BUILD_IMAGE} AS builder
# Added to the flags of llama.cpp's build, e.g. -DGGML_CUDA=on
ARG ENGINE_FLAGS=""
# CUDA's images come without Python, Python's without a compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git \
       $(command -v python3 >/dev/null || echo python3 python3-dev python3-venv) \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv /opt/hyojun
COPY requirements.lock ./
COPY app/generation/llama-build.cmake app/generation/
# GGML_NATIVE=OFF: the image must run on other processors than the one that built it (x86-64 with AVX2, or ARMv8).
RUN CMAKE_ARGS="-DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=/src/app/generation/llama-build.cmake ${ENGINE_FLAGS}" \
    /opt/hyojun/bin/pip wheel --no-cache-dir --no-deps --require-hashes -r requirements.lock --wheel-dir /wheels
COPY pyproject.toml README.md CHANGELOG.md ./
COPY app app
COPY schemas schemas
COPY models models
COPY migrations migrations
COPY training training
# The wheels above are checked by hash; from them only what the product itself needs goes into the image, no test tool.
RUN /opt/hyojun/bin/pip wheel --no-deps --no-index --find-links /wheels --wheel-dir /wheels . \
    && /opt/hyojun/bin/pip install --no-index --find-links /wheels hyojun

# --- runtime ---
FROM ${RUNTIME_IMAGE} AS runtime
# libgomp1: llama.cpp's threads
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
       $(command -v python3 >/dev/null || echo python3) \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 hyojun \
    && useradd --uid 10001 --gid hyojun --no-create-home --home-dir /data --shell /usr/sbin/nologin hyojun \
    && install -d -o hyojun -g hyojun /data /app
COPY --from=builder /opt/hyojun /opt/hyojun
ENV PATH=/opt/hyojun/bin:$PATH \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DATA_DIR=/data \
    API_HOST=0.0.0.0 \
    API_PORT=8484
WORKDIR /app
USER hyojun
VOLUME /data
EXPOSE 8484
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8484/healthz', timeout=4)"]
CMD ["hyojun", "serve"]
