# PostgreSQL from Debian's package, for the test cluster, which cannot pull the `postgres` image of a
# registry. It takes the settings that k8s/base/postgres.yaml uses: PGDATA, POSTGRES_DB,
# POSTGRES_USER, POSTGRES_PASSWORD.
ARG BASE
FROM ${BASE}
USER root
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        postgresql postgresql-client \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql && usermod --uid 999 postgres
COPY postgres-start /usr/local/bin/postgres-start
ENV PATH=/usr/lib/postgresql/15/bin:/usr/local/bin:/usr/bin:/bin
USER 999:999
ENTRYPOINT ["postgres-start"]
