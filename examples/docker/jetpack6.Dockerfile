# Jetson Orin, JetPack 6: TensorRT 10.3 and Python 3.10 of the image. Not built by us yet; see docs/support.md.
#   docker build -f examples/docker/jetpack6.Dockerfile -t faceprotect-jetson .
#   docker run --rm --runtime nvidia -v faceprotect-cache:/cache faceprotect-jetson engines build latent-step --device tensorrt
FROM nvcr.io/nvidia/l4t-tensorrt:r10.3.0-runtime
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
# The image's own tensorrt is what fits its driver, so the environment sees the system's packages.
RUN python3 -m venv --system-site-packages /venv && /venv/bin/pip install --no-cache-dir "/src[cpu]" filelock
ENV PATH=/venv/bin:$PATH FACEPROTECT_CACHE=/cache
VOLUME /cache
ENTRYPOINT ["faceprotect-sdk"]
