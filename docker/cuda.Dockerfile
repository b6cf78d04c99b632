# The same with ONNX Runtime on an NVIDIA GPU (ptame explain --provider cuda).
#   make wheel && docker build -f docker/cuda.Dockerfile -t ptame-cuda .
#   docker run --rm --gpus all -v "$PWD/model:/model:ro" -v "$PWD/photos:/photos:ro" \
#       -v "$PWD/out:/out" ptame-cuda explain /model /photos -o /out --provider cuda
FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04

ENV PYTHONUNBUFFERED=1 PATH=/opt/ptame/bin:$PATH
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/ptame
WORKDIR /install
COPY requirements-runtime.lock constraints.txt ./
# onnxruntime and onnxruntime-gpu install the same files: the second one takes the first one's place.
RUN pip install --no-cache-dir --require-hashes --requirement requirements-runtime.lock \
    && pip uninstall --yes onnxruntime \
    && pip install --no-cache-dir --no-deps onnxruntime-gpu==1.31.1 \
    && pip install --no-cache-dir --constraint constraints.txt fastapi prometheus-client uvicorn
COPY dist/*.whl ./
RUN pip install --no-cache-dir --no-deps ./*.whl \
    && useradd --create-home --uid 10001 ptame
USER 10001
WORKDIR /home/ptame
EXPOSE 8080
ENTRYPOINT ["ptame"]
CMD ["doctor"]
