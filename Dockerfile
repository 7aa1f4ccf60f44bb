# docker build -t rmbg-studio .                    CPU (default target)
# docker build -t rmbg-studio:cuda --target cuda . NVIDIA GPU

FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/rmbg
ENV PATH=/opt/rmbg/bin:$PATH
COPY requirements.txt /src/

# The CPU wheels of torch are on an index of their own. Headers, tests and compilers of packages are not used at run time, and
# neither are OpenVINO's plugins for other processors.
FROM build AS build-cpu
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.8,<2.14" \
 && pip install -r /src/requirements.txt \
 && rm -rf /opt/rmbg/lib/python3.*/site-packages/torch/include /opt/rmbg/lib/python3.*/site-packages/torch/test \
      /opt/rmbg/lib/python3.*/site-packages/torch/bin/protoc* /opt/rmbg/lib/python3.*/site-packages/torch/bin/test_* \
      /opt/rmbg/lib/python3.*/site-packages/openvino/include /opt/rmbg/lib/python3.*/site-packages/openvino/libs/cache.json \
      /opt/rmbg/lib/python3.*/site-packages/openvino/libs/libopenvino_intel_[gn]pu_plugin.so \
 && find /opt/rmbg -type d -name tests -path '*/site-packages/*' -prune -exec rm -rf {} + \
 && pip uninstall --yes pip

FROM build AS build-cuda
RUN pip install -r /src/requirements.txt

FROM python:3.12-slim-bookworm AS runtime
RUN useradd --uid 10001 --create-home rmbg && install -d -o rmbg -g rmbg -m 700 /data
# RMBG_DATA, weights and temporary files are on the volume; everything else may be read-only.
ENV PATH=/opt/rmbg/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RMBG_SHARED=1 \
    RMBG_DATA=/data/rmbg \
    HF_HOME=/data/huggingface \
    XDG_CACHE_HOME=/data/cache \
    GRADIO_TEMP_DIR=/data/tmp \
    GRADIO_ANALYTICS_ENABLED=False
WORKDIR /app
COPY app.py ./
COPY rmbg ./rmbg
COPY examples ./examples
USER 10001
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:7860/healthz', timeout=8)"]
CMD ["python", "-m", "rmbg", "serve", "--host", "0.0.0.0", "--port", "7860"]

FROM runtime AS cuda
COPY --from=build-cuda /opt/rmbg /opt/rmbg

FROM runtime AS cpu
COPY --from=build-cpu /opt/rmbg /opt/rmbg
