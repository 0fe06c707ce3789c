# TensorRT-RTX on x86-64, whose wheels bring their own CUDA runtime: the driver is all that the host needs. Not built by us yet; see docs/support.md.
#   docker build -f examples/docker/rtx.Dockerfile -t faceprotect-rtx .
#   docker run --rm --gpus all -v faceprotect-cache:/cache faceprotect-rtx engines build latent-step --device rtx
FROM ubuntu:24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir "/src[cpu,rtx,judge]"
ENV PATH=/venv/bin:$PATH FACEPROTECT_CACHE=/cache NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME /cache
ENTRYPOINT ["faceprotect-sdk"]
