# Trestle, without build tools, run by a user without rights.
#
#   docker build -t trestle .
#   docker run -v ./settings:/etc/trestle:ro -v trestle:/var/lib/trestle -p 29333:29333 trestle
#
# settings/config.yaml needs `state_dir: /var/lib/trestle` and `appservice.listen: 0.0.0.0:29333` (the homeserver does not
# reach the container's own loopback), and must be readable by user 10001. Stop it with `docker stop -t 30`.

FROM python:3.13.9-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY bridge bridge
COPY deploy/man deploy/man
RUN python -m venv --without-pip /opt/trestle \
    && pip --python /opt/trestle/bin/python install --no-cache-dir --no-compile .

FROM python:3.13.9-slim-bookworm
RUN useradd --uid 10001 --user-group --no-log-init --home-dir /var/lib/trestle --create-home trestle \
    && chmod 0711 /var/lib/trestle \
    && python -m pip uninstall --yes pip
COPY --from=build /opt/trestle /opt/trestle
ENV PATH=/opt/trestle/bin:$PATH PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /var/lib/trestle
VOLUME /var/lib/trestle
EXPOSE 29333
# It asks through the program's own socket, wherever `ops.listen` is. The answer is not kept: it names people.
HEALTHCHECK --interval=30s --timeout=15s --start-period=90s --retries=3 \
    CMD ["sh", "-c", "trestle status -c /etc/trestle/config.yaml > /dev/null"]
ENTRYPOINT ["trestle"]
CMD ["run", "-c", "/etc/trestle/config.yaml"]
