# A server of trained runs:
#   docker build -t innerloop .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo:/runs/model:ro" --stop-timeout 40 innerloop
# Then open http://127.0.0.1:8000. Wheels of torch without CUDA are a tenth of the size; give the index that has them:
#   docker build --build-arg TORCH_INDEX=... -t innerloop .

FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY innerloop ./innerloop
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG TORCH_INDEX=""
# Torch first and alone: its layer stays when the project changes.
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY --from=build /wheels /wheels
RUN wheel="$(ls /wheels/innerloop-*.whl)" \
 && pip install --no-cache-dir "${wheel}[serve,solve]" \
 && rm -r /wheels \
 && useradd --create-home --uid 10001 innerloop
USER innerloop
WORKDIR /home/innerloop
ENV PYTHONUNBUFFERED=1
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Inside a container 127.0.0.1 is the container itself: nothing that docker publishes would arrive there, so the server
# listens on all of the container's addresses. Who can reach it is then decided by what is published: -p 127.0.0.1:8000
# lets this machine in and nobody else. The server asks nobody who they are.
ENTRYPOINT ["innerloop", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/runs/model"]
