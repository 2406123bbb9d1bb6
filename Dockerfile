# docker build -t crossgrant . && docker run -p 8000:8000 -v crossgrant:/data crossgrant
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /opt/crossgrant && mkdir /data
COPY pyproject.toml constraints.txt LICENSE ./
COPY app ./app
# The variable pins the build tools too; pip from 25.3 on reads the second one for them.
RUN PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
    /opt/crossgrant/bin/python -m pip install --no-cache-dir --disable-pip-version-check --quiet . \
    && /opt/crossgrant/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes pip

FROM ${BASE}
COPY --from=build /opt/crossgrant /opt/crossgrant
# The one folder that is written to; a new volume takes over its owner.
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/crossgrant/bin:$PATH \
    CROSSGRANT_DATA_DIR=/data
USER 10001:10001
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "from urllib import request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["crossgrant"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
