# Jetson Thor, JetPack 7: CUDA 13, Python 3.12 and TensorRT 10.13 of NVIDIA's image for Arm servers, which Thor shares. Not built by us yet; see docs/support.md.
#   docker build -f examples/docker/jetpack7.Dockerfile -t faceprotect-thor .
#   docker run --rm --runtime nvidia -v faceprotect-cache:/cache faceprotect-thor engines build latent-step --device tensorrt
FROM nvcr.io/nvidia/tensorrt:25.08-py3
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv libgl1 libglib2.0-0 && rm -rf /var/lib/apt/lists/*
COPY . /src
# The image's own tensorrt is what fits its CUDA, so the environment sees the system's packages; without it or with an older one the build ends here.
RUN python3 -m venv --system-site-packages /venv && PIP_CONSTRAINT= /venv/bin/pip install --no-cache-dir "/src[cpu]" filelock && \
    /venv/bin/python -c "import tensorrt; v = tensorrt.__version__; print(v); assert int(v.split('.')[0]) >= 10"
ENV PATH=/venv/bin:$PATH FACEPROTECT_CACHE=/cache
VOLUME /cache
ENTRYPOINT ["faceprotect-sdk"]
