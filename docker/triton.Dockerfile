# Triton with what the repositories of `ptame triton` need: the Python backend's ensemble decodes photos
# with this package's own code.
#   make wheel && docker build -f docker/triton.Dockerfile -t ptame-triton .
#   docker run --rm --gpus all -v "$PWD/models:/models:ro" -p 8000-8002:8000-8002 ptame-triton
FROM nvcr.io/nvidia/tritonserver:25.09-py3

WORKDIR /install
COPY requirements-runtime.lock ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-runtime.lock
COPY dist/*.whl ./
RUN pip install --no-cache-dir --no-deps ./*.whl
WORKDIR /
USER 1000
EXPOSE 8000 8001 8002
ENTRYPOINT ["tritonserver"]
CMD ["--model-repository=/models"]
