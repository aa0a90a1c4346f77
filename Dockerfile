# The page and the interface of `pawprint serve` over one exported model: `dvc repro`, then
#   docker build --tag pawprint . && docker run --publish 8000:8000 --read-only --tmpfs /tmp pawprint
# No torch in it: the versions come from requirements.lock, the packages are those that pawprint/ imports to serve.
FROM python:3.12-slim
WORKDIR /app
COPY requirements.lock ./
RUN pip install --no-cache-dir --constraint requirements.lock \
    httpx numpy onnxruntime pi-heif pillow prometheus-client python-multipart scipy starlette tqdm uvicorn
COPY pawprint pawprint
COPY export export
USER nobody
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=3)"]
CMD ["python", "-m", "pawprint", "serve", "export", "--host", "0.0.0.0", "--port", "8000"]
