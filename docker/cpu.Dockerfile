# ptame explain, ptame serve and the Python API on a CPU, without PyTorch.
#   make wheel && docker build -f docker/cpu.Dockerfile -t ptame .
#   docker run --rm -v "$PWD/model:/model:ro" -p 8080:8080 ptame serve /model --host 0.0.0.0
FROM python:3.12-slim-trixie

ENV PYTHONUNBUFFERED=1
WORKDIR /install
COPY requirements-runtime.lock constraints.txt ./
RUN pip install --no-cache-dir --require-hashes --requirement requirements-runtime.lock \
    && pip install --no-cache-dir --constraint constraints.txt fastapi prometheus-client uvicorn
COPY dist/*.whl ./
RUN pip install --no-cache-dir --no-deps ./*.whl \
    && useradd --create-home --uid 10001 ptame
USER 10001
WORKDIR /home/ptame
EXPOSE 8080
ENTRYPOINT ["ptame"]
CMD ["doctor"]
