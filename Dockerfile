# One image: the brain with its migrations and static files. The database is chosen at run time by Z4J_DATABASE_URL.
ARG BASE_IMAGE=python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY requirements/base.txt requirements/bootstrap.txt requirements/
RUN python3 -m venv /venv \
 && /venv/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/base.txt
RUN python3 -m venv /build && /build/bin/python -m pip install --no-cache-dir hatchling
COPY VERSION LICENSE README.md pyproject.toml manage.py ./
COPY agents agents
COPY z4j_project z4j_project
COPY brain brain
COPY audit audit
COPY dashboard dashboard
RUN /build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels \
      ./agents/z4j-core ./agents/z4j-bare ./agents/z4j-django . \
 && /venv/bin/python -m pip install --no-cache-dir --no-deps --no-index /wheels/*.whl

FROM ${BASE_IMAGE}
RUN useradd --uid 10001 --create-home --home-dir /home/z4j z4j && install -d -o z4j -g z4j -m 0700 /data
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 Z4J_HOME=/data Z4J_HOST=0.0.0.0 Z4J_PORT=7700
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 7700
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["/venv/bin/python", "-c", "import urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:7700/healthz', headers={'Host': 'localhost', 'X-Forwarded-Proto': 'https'}), timeout=4)"]
CMD ["z4j", "serve"]
