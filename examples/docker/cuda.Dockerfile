# ONNX Runtime with CUDA on x86-64. Not built by us yet; see docs/support.md.
#   docker build -f examples/docker/cuda.Dockerfile -t faceprotect-cuda .
#   docker run --rm --gpus all -v "$PWD:/photos" faceprotect-cuda protect /photos/me.jpg --device cuda
FROM nvidia/cuda:12.6.3-cudnn-runtime-ubuntu24.04
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir "/src[gpu,judge]"
ENV PATH=/venv/bin:$PATH FACEPROTECT_CACHE=/cache
VOLUME /cache
ENTRYPOINT ["faceprotect-sdk"]
