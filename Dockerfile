# One image for every worker; the service's command is a verb of prm-es. The embedded servers are left out.
FROM python:3.13-slim AS build
RUN python -m venv /opt/prm-es
COPY requirements.image.lock /src/
RUN /opt/prm-es/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r /src/requirements.image.lock
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN /opt/prm-es/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps /src

FROM python:3.13-slim
RUN useradd --system --uid 10001 --home-dir /home/prm-es --create-home prm-es
COPY --from=build /opt/prm-es /opt/prm-es
ENV PATH=/opt/prm-es/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PRM_DATA=/home/prm-es/data
USER prm-es
WORKDIR /home/prm-es
ENTRYPOINT ["prm-es"]
CMD ["--help"]
